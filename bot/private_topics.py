"""Topics that are private though they name nobody: health, money, the law, faith, love. Words in several languages.

A hint for keeping a message at home, not a judgement: words are compared, nothing is understood.
"""

from __future__ import annotations

import re

GRAVE, GREAT, SOME = 0.8, 0.6, 0.4

LATIN = {
    GRAVE: (
        r"hiv|aids|cancer|chemotherapy|tumou?r|diagnos(?:ed|is|e)|depress(?:ed|ion|ive)|suicid\w{0,5}|self[- ]harm"
        r"|bipolar|schizophreni\w{1,3}|miscarriage"
        r"|abortion|pregnan(?:t|cy)|std|herpes|rehab|overdose|addict(?:ed|ion)|psychiatr\w{1,4}|therapist"
        r"|anorexi\w{1,3}|dementia|epilepsy|erectile|rape[dr]?"
        r"|abus(?:ed|ive)|molest\w{1,4}|domestic violence|affair with|undocumented|asylum"
        r"|krebs|chemotherapie|diagnose|depression(?:en)?|selbstmord\w{0,6}|suizid\w{0,6}|schwanger\w{0,8}"
        r"|fehlgeburt|abtreibung|psychiat\w{1,6}|sucht|missbrauch\w{0,3}"
        r"|chimiothérapie|dépression|dépressi\w{1,3}|enceinte|grossesse|fausse couche|avortement|psychiatre"
        r"|séropositi\w{1,3}|viol|cancer du"
        r"|cáncer|quimioterapia|depresión|suicid\w{1,5}|embarazad[ao]|aborto|psiquiatra|vih|violación|zwanger|kanker"
        r"|zelfmoord|depressie"
    ),
    GREAT: (
        r"lawsuit|sued?|suing|custody|divorc\w{1,4}|bankrupt\w{0,4}|criminal record|arrested|probation|restraining "
        r"order|confidential|affidavit|prison|fraud"
        r"|salary|payslip|mortgage|in debt|my debts?|loan shark|tax return|payroll|net worth|medication"
        r"|antidepressants?|prescription|blood test|surgery|symptoms?"
        r"|gay|lesbian|transgender|my sexuality|fired me|laid off|harass(?:ed|ment)|blackmail\w{0,3}"
        r"|scheidung|sorgerecht|klage|vorstrafe\w{0,2}|insolvenz|schulden|gehalt|steuererklärung|vertraulich|rezept "
        r"vom arzt|blutwerte|blutdruck|operation|gekündigt"
        r"|divorcer?|garde des enfants|procès|casier judiciaire|faillite|dettes|salaire|déclaration d['’]impôts"
        r"|confidentiel\w{0,2}|ordonnance|prise de sang|opération"
        r"|divorci\w{1,4}|custodia|demanda judicial|antecedentes penales|deudas?|sueldo|nómina|hipoteca|confidencial"
        r"|receta|análisis de sangre|cirugía|despedid[oa]"
        r"|scheiding|schulden|salaris|hypotheek|vertrouwelijk"
    ),
    SOME: (
        r"doctor|hospital|clinic|lawyer|attorney|court|police|bank account|invoice|insurance|church|mosque|synagogue"
        r"|voted for|relationship|girlfriend|boyfriend"
        r"|arzt|ärztin|krankenhaus|anwalt|anwältin|gericht|polizei|konto|versicherung|médecin|hôpital|avocat"
        r"|tribunal|police|compte bancaire|assurance"
        r"|médico|hospital|abogad[oa]|juzgado|policía|cuenta bancaria|seguro|ziekenhuis|advocaat|rechtbank"
    ),
}
HAN = {
    GRAVE: (
        "艾滋|癌|肿瘤|化疗|抑郁|自杀|自残|精神病|双相|精神分裂|流产|堕胎|怀孕|性病|梅毒|吸毒|戒毒|确诊|诊断|家暴|强奸|性侵"
        "|出轨|痴呆|癫痫|阳痿|乙肝"
    ),
    GREAT: (
        "离婚|抚养权|起诉|官司|破产|前科|逮捕|判刑|欠债|欠款|负债|贷款|工资|薪水|月薪|年薪|报税|房贷|机密|保密|手术|处方"
        "|验血|体检报告|病历|症状|同性恋|跨性别|被裁|被开除|性骚扰|勒索|高利贷|存款"
    ),
    SOME: "医生|医院|律师|法院|警察|派出所|银行|保险|看病|吃药|教堂|清真寺|男朋友|女朋友|前女友|前男友",
}
EDGES = "(?<![A-Za-zÀ-ÿ])(?:{})(?![A-Za-zÀ-ÿ])|(?:{})"
SCALES = tuple((one, re.compile(EDGES.format(LATIN[one], HAN[one]), re.IGNORECASE)) for one in (GRAVE, GREAT, SOME))


def topic(text: str) -> float:
    """How private what a text is about may be: 0 where no word of the lists is in it."""
    return next((weight for weight, pattern in SCALES if pattern.search(text)), 0.0)
