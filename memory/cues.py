"""Words that tell what lasts from what passes, in the languages that most people write in.

The lists are small on purpose: they only weigh sentences against each other, and a language that is not here is
weighed by its names, numbers and frequent words. Pairs of characters stand for words in dense scripts.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(word.casefold() for word in text.split())


# Of themselves.
PERSONAL = _words(
    "i i'm i've i'd i'll my me mine we we're we've our us ich mein meine meinen meinem meiner mich mir wir unser "
    "unsere je j'ai j'aime j'habite moi mon ma mes nous notre nos yo mi mis nosotros nuestro nuestra soy tengo "
    "io mio mia miei mie noi nostro sono ho eu meu minha meus minhas sou tenho ik mijn wij ons onze я мой моя "
    "моё мои меня мне мы наш наша 我叫 我是 我的 我们 我有 我在 我住 我不 我喜 我对 私は 私の 僕は 僕の 俺の "
    "うち 나는 저는 내가 제가 우리"
)

# What stays true, or what somebody asks to be kept.
FIRM = _words(
    "remember forget always never name names named allergic allergy allergies intolerant birthday born live "
    "lives prefer prefers favourite favorite phone number address email password married vegetarian vegan "
    "diabetic blind deaf decided agreed deadline merk merke merken vergiss immer nie niemals heiße heißt name "
    "allergisch allergie geburtstag geboren wohne wohnt wohnen bevorzuge lieblings telefonnummer handynummer "
    "nummer adresse verheiratet vegetarier vegetarierin vegetarisch beschlossen entschieden souviens rappelle "
    "oublie toujours jamais appelle nom prénom allergique allergie anniversaire né née habite préfère préféré "
    "préférée téléphone numéro adresse marié mariée végétarien végétarienne décidé recuerda olvides siempre "
    "nunca llamo llama nombre alérgico alérgica alergia cumpleaños nací vivo vive prefiero favorito favorita "
    "teléfono número dirección casado casada vegetariano vegetariana decidido decidimos ricorda dimenticare "
    "sempre chiamo chiama nome allergico allergica allergia compleanno nato nata abito vive preferisco preferito "
    "telefono numero indirizzo sposato sposata deciso lembra lembre esqueça sempre chamo chama alérgico alergia "
    "aniversário nasci moro mora prefiro telefone número endereço onthoud vergeet altijd nooit heet naam "
    "allergisch verjaardag geboren woon woont liever telefoonnummer adres запомни помни забудь всегда никогда "
    "зовут имя аллергия рождения живу живет живёт предпочитаю любимый любимая телефон номер адрес решили решил "
    "решила 记住 记得 忘记 总是 从不 永远 名字 我叫 叫做 过敏 生日 出生 住在 电话 号码 地址 邮箱 密码 决定 最喜 "
    "吃素 覚え 忘れ いつも 必ず 絶対 名前 誕生 住ん 電話 番号 住所 アレルギー 決め 결정 기억 항상 절대 이름 생일 "
    "전화 번호 주소 알레 레르"
)

# People and things of a life.
LIFE = _words(
    "call called daughter son wife husband mother father mum mom dad sister brother partner girlfriend boyfriend "
    "friend child children kids baby cat dog family doctor medication medicine job work works company boss "
    "school appointment booked passport budget moved bought plan plans must please project tochter sohn frau "
    "mann mutter vater schwester bruder partner freund freundin kind kinder katze hund familie arzt ärztin "
    "arbeite arbeit firma schule termin gebucht budget gekauft plan bitte projekt fille fils femme mari mère "
    "père sœur frère ami amie enfant enfants chat chien famille travaille école rendez-vous hija hijo esposa "
    "marido madre padre hermana hermano amigo amiga gato perro familia trabajo escuela cita figlia figlio moglie "
    "marito madre padre sorella fratello amico gatto cane famiglia lavoro scuola filha filho esposa mãe pai irmã "
    "irmão amigo cachorro família trabalho dochter zoon vrouw man moeder vader zus broer vriend kat hond gezin "
    "werk дочь дочка сын жена муж мама папа мать отец сестра брат друг кошка собака семья работаю работа школа "
    "女儿 儿子 妻子 老婆 丈夫 老公 妈妈 爸爸 姐姐 妹妹 哥哥 弟弟 朋友 孩子 工作 公司 学校 医生 预算 计划 息子 "
    "夫は 妻は 家族 友達 子供 仕事 会社 学校 病院 予定 予算 아들 남편 아내 엄마 아빠 친구 가족 회사 학교"
)

# Tastes and wishes.
TASTE = _words(
    "like likes love loves hate hates dislike want wants need needs enjoy mag liebe hasse möchte brauche gern "
    "gerne aime adore déteste veux voudrais besoin gusta encanta odio quiero necesito piace amo voglio vorrei "
    "gosto quero preciso houd wil люблю нравится хочу нужно 喜欢 讨厌 想要 需要 好き 嫌い 欲し ほし 좋아 싫어 "
    "원해"
)

# What is over by tomorrow.
PASSING = _words(
    "today now tonight tomorrow yesterday just currently soon later minute minutes morning afternoon evening "
    "again heute jetzt morgen gestern gerade gleich später wieder aujourd'hui maintenant demain bientôt hoy "
    "ahora mañana ayer oggi adesso domani ieri hoje agora amanhã ontem vandaag nu gisteren сегодня сейчас завтра "
    "вчера скоро 今天 现在 明天 昨天 刚才 马上 今日 明日 昨日 오늘 지금 내일 어제"
)

# What questions begin with, for people who leave the mark out, and what they end with in dense scripts.
ASKING = _words(
    "what what's who who's where when why how which whose do does did is are was were can could would should "
    "will has have wer was wie wo wann warum wieso welche welcher welches kannst soll qui que quoi où quand "
    "pourquoi comment quel quelle qué quién dónde cuándo cómo cuál chi che cosa dove quando perché come quem "
    "onde como wat wie waar wanneer waarom hoe кто что где когда почему как какой какая сколько"
)
ASKED = ("吗", "呢", "么", "か", "까", "까요", "나요")

# A sentence of nothing else says nothing.
CHAFF = _words(
    "hi hello hey yo i i'm am you know ok okay thanks thank you thx ty bye goodbye good morning afternoon "
    "evening night yes yeah yep no nope sure cool great nice fine well haha hahaha lol wow oh ah hm hmm welcome "
    "you're please so and then how are see is it that's that right exactly perfect awesome got the a very much "
    "too indeed alright all of course hallo danke schön bitte tschüss guten tag morgen abend nacht ja nein klar "
    "super gut sehr genau bonjour bonsoir salut merci beaucoup oui non d'accord bien au revoir hola gracias sí "
    "vale bueno buenos buenas días tardes noches adiós ciao grazie prego sì va bene buongiorno olá obrigado "
    "obrigada sim não tudo bem dank je wel dag goed привет спасибо да нет пока хорошо ладно здравствуйте "
    "пожалуйста 你好 您好 谢谢 谢谢你 多谢 再见 好 好的 好吧 嗯 嗯嗯 是 是的 不 不是 对 哈哈 哈哈哈 早上好 晚安 "
    "こんにちは おはよう おはようございます こんばんは ありがとう ありがとうございます はい いいえ うん そう "
    "そうですね 안녕 안녕하세요 감사합니다 고마워 네 예 아니요 응 그래"
)
