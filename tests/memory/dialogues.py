"""A labelled set for retrieval: made-up dialogues, and questions about them in other words.

Everything here is invented. Every dialogue tells something, spread over several turns and among turns about nothing;
others of its kind tell the same of other people, places and things, so that a question is only answered by the one
that has its details. A question shares some words with what was said and replaces others.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from roost.contracts import Turn

DAY = 86400.0
BEGUN = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What one kind of dialogue may be: what a person says, what is answered, what is asked long after.

    Each is several lines to choose from; `{slots}` are filled alike in one dialogue.
    """

    told: Sequence[str]
    answered: Sequence[str]
    more: Sequence[str]
    asked: Sequence[str]


@dataclass(frozen=True, slots=True)
class Tongue:
    """A language: what fills the slots, its scenes, what people say without saying anything, and strange questions."""

    slots: Mapping[str, str]
    scenes: Sequence[Scene]
    idle: Sequence[str]
    strange: Sequence[str]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Turns by number, and questions with the numbers of which one at least should be found.

    `strange` are questions about what nobody spoke of.
    """

    turns: dict[int, Turn]
    questions: list[tuple[str, set[int]]]
    strange: list[str]


ENGLISH = Tongue(
    slots={
        "who": "Ruth,Milan,Greta,Oskar,Priya,Tomas,Leila,Hector,Sanna,Bruno,Yara,Colin,Ingrid,Pavel,Noor,Dario,Wanda",
        "city": "Lisbon,Krakow,Bergen,Tbilisi,Marseille,Quito,Osaka,Dresden,Valencia,Galway,Porto,Turin,Tallinn,Leeds",
        "food": "lentil soup,grilled sardines,mushroom risotto,pumpkin curry,beef stew,spinach pie,noodle salad,"
        "stuffed peppers,clam chowder,apple strudel,fish tacos,potato dumplings",
        "thing": "lawnmower,dishwasher,telescope,sewing machine,printer,violin,tent,drill,coffee grinder,projector,"
        "wheelbarrow,keyboard,scooter,camera,freezer",
        "part": "hinge,battery,gasket,spring,fuse,belt,lens,switch,cable,filter,valve,handle",
        "month": "January,February,March,April,May,June,July,August,September,October,November,December",
        "animal": "tortoise,parrot,spaniel,hamster,goat,kitten,pony,ferret,canary,greyhound",
        "pet": "Biscuit,Rocket,Olive,Pepper,Ziggy,Marble,Tofu,Domino,Clover,Pickle,Waffle,Juniper",
        "job": "carpenter,pharmacist,tram driver,beekeeper,translator,welder,midwife,archivist,gardener,referee",
        "color": "turquoise,maroon,ivory,mustard,lavender,charcoal,emerald,copper",
        "n": "seven,nine,twelve,fourteen,eighteen,twenty-two,thirty,forty,sixty-five,ninety",
        "ill": "migraine,sprained ankle,hay fever,toothache,sore throat,back pain,eczema,anaemia",
        "book": "The Salt Road,Winter Orchard,A Clock of Moss,Nine Harbours,The Glass Ferry,Paper Lanterns,Low Tide",
    },
    scenes=[
        Scene(
            ["{who} took me out in {city} last night.", "Had dinner with {who} while I was in {city}."],
            ["Lovely. Was it a good place?", "Sounds like a treat! What did you order?"],
            ["I had the {food}, and the waiter forgot the bill.", "The {food} was the best I ever ate."],
            ["What dish did I eat when I went out with {who} in {city}?", "In {city} with {who}, what was my meal?"],
        ),
        Scene(
            ["My {thing} stopped working this morning.", "The {thing} makes a horrible noise."],
            ["That is annoying. Have you opened it up?", "Is it still under warranty?"],
            ["The {part} was broken. A spare costs {n} euros.", "It's the {part}, I ordered another for {n} euros."],
            ["Which component of the {thing} was faulty?", "How much did the replacement {part} for the {thing} cost?"],
        ),
        Scene(
            ["{who} is getting a {animal}!", "Guess what, {who} adopted a {animal}."],
            ["How sweet. Does it have a name yet?", "That will keep the house busy."],
            ["They called it {pet}.", "{pet} is the name, because of the {color} collar."],
            ["What is {who}'s {animal} called?", "Whose {animal} is {pet}?"],
        ),
        Scene(
            ["I went to the doctor about my {ill}.", "This {ill} won't go away."],
            ["I'm sorry to hear that. What was the advice?", "Did they give you anything for it?"],
            [
                "{n} drops a day for two weeks, then a check-up in {month}.",
                "I must return in {month}; {n} drops till then.",
            ],
            ["When is the check-up because of my {ill}?", "How many drops was I told to take for the {ill}?"],
        ),
        Scene(
            ["{who} has a new job as a {job}.", "You won't believe it: {who} wants to be a {job}."],
            ["Quite a change! Where will that be?", "Good for them. When does it begin?"],
            ["It starts in {month}, over in {city}.", "In {city}, from {month} on, moving costs included."],
            ["Where will {who} be working as a {job}?", "In which month does {who} begin as a {job}?"],
        ),
        Scene(
            ["I finished {book} at last.", "{who} lent me {book}."],
            ["What did you think of it?", "Would you recommend it?"],
            ["The ending with the {animal} made me cry.", "Dull until the {job} turns up in {city}."],
            [
                "What did I say about the end of {book}?",
                "Which book had a {job} in {city} or a {animal} in it, {book}?",
            ],
        ),
        Scene(
            ["We're painting the kitchen next weekend.", "The hallway needs a new coat of paint."],
            ["Have you chosen a tone?", "How big are the walls?"],
            ["{color}, with {n} litres from {who}'s shop.", "{who} says {color}; {n} litres should do."],
            [
                "Which {color} paint did {who} suggest, and how many litres?",
                "{n} litres of what colour did {who} sell us?",
            ],
        ),
        Scene(
            [
                "The wifi password at {who}'s cottage, for your notes:",
                "Please keep {who}'s door code in {city} for me.",
            ],
            ["Noted. Go ahead.", "Of course, tell me."],
            ["It's {pet}-{n}-{color}.", "{color}{pet}, all in one word, then {n}."],
            ["What is the password for {who}'s place?", "How do I get in at {who}'s cottage, what was the code?"],
        ),
    ],
    idle=(
        [
            "Good morning!",
            "Not much going on here.",
            "It rained all day again.",
            "Haha, true.",
            "I should go to bed.",
            "Thanks, that helps.",
            "Let me think about it.",
            "The bus was late as usual.",
            "You're welcome!",
            "Anything else on your mind?",
            "I'm on the train.",
            "Can we talk about this tomorrow?",
            "What a week.",
            "I was about to say the same.",
            "Sure, no hurry.",
            "Happy to help.",
            "My phone is nearly empty.",
            "The neighbours are loud tonight.",
            "I need a holiday.",
            "Tell me more.",
            "Fair enough.",
        ]
    ),
    strange=(
        [
            "What did the quantum chromodynamics seminar conclude?",
            "Where did I park the submarine?",
            "Who won the curling championship in Antarctica?",
            "How do I prune bonsai junipers hydroponically?",
            "Which saxophone reed did the astronaut prefer?",
            "What was the verdict on the zoning ordinance?",
        ]
    ),
)

CHINESE = Tongue(
    slots={
        "who": "王芳,李强,张伟,刘洋,陈静,杨柳,赵磊,黄蓉,周杰,吴敏,徐丽,孙浩,朱琳,胡军,郭涛",
        "city": "成都,西安,杭州,青岛,昆明,南京,厦门,长沙,哈尔滨,桂林,苏州,大连,拉萨",
        "food": "酸菜鱼,回锅肉,小笼包,麻婆豆腐,羊肉泡馍,烤鸭,凉皮,螺蛳粉,肠粉,锅包肉,臭豆腐",
        "thing": "洗衣机,吸尘器,打印机,投影仪,自行车,电饭煲,空调,热水器,显微镜,缝纫机",
        "part": "电池,滤网,保险丝,皮带,开关,螺丝,轴承,电线,镜头,阀门",
        "month": "一月,二月,三月,四月,五月,六月,七月,八月,九月,十月,十一月,十二月",
        "animal": "乌龟,鹦鹉,金毛,仓鼠,山羊,小猫,兔子,刺猬,金鱼",
        "pet": "豆豆,火箭,橄榄,辣椒,团子,多多,布丁,芝麻,汤圆,可乐",
        "job": "木匠,药剂师,司机,养蜂人,翻译,焊工,护士,园丁,裁判,会计",
        "n": "七,九,十二,十四,十八,二十二,三十,四十,六十五,九十",
        "ill": "偏头痛,崴脚,花粉过敏,牙疼,嗓子疼,腰疼,湿疹,失眠",
    },
    scenes=[
        Scene(
            ["昨晚{who}请我在{city}吃饭。", "我在{city}的时候跟{who}出去吃了一顿。"],
            ["真不错，好吃吗？", "点了些什么菜呢？"],
            ["我点了{food}，特别香。", "那家的{food}是我吃过最好的。"],
            ["和{who}在{city}那次我吃的是哪道菜？", "{who}在{city}请客，当时点了什么？"],
        ),
        Scene(
            ["家里的{thing}今天早上坏了。", "{thing}一直有奇怪的声音。"],
            ["真麻烦，拆开看过吗？", "还在保修期内吗？"],
            ["原来是{part}坏了，换一个要{n}块钱。", "师傅说{part}得换，一共{n}块。"],
            ["{thing}是哪个零件出了问题？", "换{thing}的{part}花了多少钱？"],
        ),
        Scene(
            ["{who}要养一只{animal}了！", "你猜怎么着，{who}领养了一只{animal}。"],
            ["好可爱，起名字了吗？", "家里要热闹了。"],
            ["名字叫{pet}。", "他们管它叫{pet}，因为颜色像。"],
            ["{who}家的{animal}叫什么名字？", "{pet}是谁家的{animal}？"],
        ),
        Scene(
            ["我因为{ill}去看了医生。", "这个{ill}一直不好。"],
            ["要多休息，医生怎么说？", "开药了吗？"],
            ["每天{n}滴，连用两周，{month}再复查。", "{month}要回去复查，之前每天{n}滴。"],
            ["{ill}什么时候去复查？", "因为{ill}，医生让我每天用几滴药？"],
        ),
        Scene(
            ["{who}换了新工作，去当{job}了。", "没想到{who}想做{job}。"],
            ["变化真大！在哪里上班？", "恭喜，什么时候开始？"],
            ["在{city}，从{month}开始。", "{month}就去{city}报到。"],
            ["{who}当{job}是在哪个城市？", "{who}哪个月开始做{job}？"],
        ),
    ],
    idle=(
        [
            "早上好！",
            "今天没什么事。",
            "又下了一天雨。",
            "哈哈，没错。",
            "该睡觉了。",
            "谢谢你。",
            "让我想想。",
            "公交车又晚点了。",
            "不客气。",
            "还有别的事吗？",
            "我在地铁上。",
            "明天再聊吧。",
            "这周太累了。",
            "我也是这么想的。",
            "好的，不着急。",
            "手机快没电了。",
            "邻居好吵。",
        ]
    ),
    strange=[
        "火星基地的氧气价格怎么样？",
        "谁赢了冰壶世界锦标赛？",
        "潜水艇停在哪个车库？",
        "量子色动力学讲座说了什么？",
    ],
)

# One scene each: who owns which animal, called what; or who moves where, and when.
OTHERS = {
    "de": Tongue(
        slots={
            "who": "Anneliese,Jürgen,Björn,Käthe,Matthias,Sieglinde,Rüdiger,Heike",
            "animal": "Schildkröte,Papagei,Dackel,Ziege,Igel,Kater,Meerschweinchen,Esel",
            "pet": "Krümel,Rakete,Olive,Pfeffer,Murmel,Schnute,Wolke,Zimt",
        },
        scenes=[
            Scene(
                ["{who} hat sich einen Hausgenossen geholt: {animal}!", "Bei {who} wohnt jetzt eine Art {animal}."],
                ["Wie schön! Hat das Tier schon einen Namen?"],
                ["Es hört auf {pet}.", "Sie rufen {pet}, meistens vergeblich."],
                ["Wie heißt das Tier von {who}, {animal} oder so?", "Zu wem gehört {pet}?"],
            )
        ],
        idle=[
            "Guten Morgen!",
            "Es regnet schon wieder.",
            "Danke dir.",
            "Ich sitze im Zug.",
            "Bis später.",
            "Stimmt.",
            "Gern geschehen.",
        ],
        strange=[
            "Wer gewann die Meisterschaft im Eisstockschießen?",
        ],
    ),
    "es": Tongue(
        slots={
            "who": "Begoña,Íñigo,Asunción,Joaquín,Ramón,Nuria,Andrés,Pilar",
            "city": "Cádiz,León,Málaga,Córdoba,Ávila,Bilbao,Gijón,Mérida",
            "month": "enero,febrero,marzo,abril,mayo,junio,julio,agosto,octubre",
            "job": "carpintera,médico,panadero,traductora,jardinero,pescador",
        },
        scenes=[
            Scene(
                ["{who} se muda a {city}.", "Me contó {who} que deja todo y se va a {city}."],
                ["¡Vaya cambio! ¿Y por qué?"],
                ["Empieza a trabajar en {month}, de {job}.", "De {job}, a partir de {month}."],
                ["¿Cuándo empieza {who} en {city}?", "¿De qué va a trabajar {who} en {city}?"],
            )
        ],
        idle=[
            "¡Buenos días!",
            "Otra vez llueve.",
            "Gracias.",
            "Estoy en el tren.",
            "Hasta luego.",
            "Claro que sí.",
            "De nada.",
        ],
        strange=[
            "¿Quién ganó el campeonato de esgrima submarina?",
        ],
    ),
    "ru": Tongue(
        slots={
            "who": "Людмила,Аркадий,Тамара,Геннадий,Зинаида,Эдуард,Варвара,Степан",
            "city": "Казань,Псков,Самара,Калуга,Вологда,Рязань,Пермь",
            "month": "январе,феврале,марте,апреле,июне,августе,октябре",
        },
        scenes=[
            Scene(
                ["{who} продаёт квартиру, цель — {city}.", "У неё новость: {who}, {city}, переезд."],
                ["Вот это да! А когда?"],
                ["В {month}, если найдут машину.", "Сказали, что в {month}."],
                ["Куда и когда переезжает {who} — {city}?", "{who} продаёт квартиры? Город {city}?"],
            )
        ],
        idle=[
            "Доброе утро!",
            "Опять дождь.",
            "Спасибо.",
            "Я в поезде.",
            "До завтра.",
            "Конечно.",
            "Пожалуйста.",
        ],
        strange=[
            "Кто выиграл чемпионат по подводному фехтованию?",
        ],
    ),
    "ja": Tongue(
        slots={
            "who": "田中さん,佐藤さん,鈴木さん,高橋さん,渡辺さん,小林さん,山口さん",
            "city": "京都,札幌,長崎,仙台,金沢,広島,奈良",
            "food": "味噌ラーメン,お好み焼き,海鮮丼,天ぷら,うなぎ,カツカレー,たこ焼き",
        },
        scenes=[
            Scene(
                ["昨日{who}と{city}に行きました。", "{city}で{who}に会いました。"],
                ["いいですね。何を食べましたか。"],
                ["{food}を食べました。とても美味しかったです。", "有名な店の{food}です。"],
                ["{who}と{city}で食べた料理は何でしたか。", "{city}の{who}との食事、何を注文した？"],
            )
        ],
        idle=[
            "おはようございます。",
            "また雨ですね。",
            "ありがとう。",
            "電車の中です。",
            "また明日。",
            "なるほど。",
            "どういたしまして。",
        ],
        strange=[
            "潜水艦の駐車場はどこですか。",
        ],
    ),
    "ko": Tongue(
        slots={
            "who": "민수,지영,현우,서연,동현,하은,준호",
            "animal": "거북이,앵무새,고양이,햄스터,강아지,토끼,고슴도치",
            "pet": "보리,로켓,올리브,후추,구름,단추,호두",
        },
        scenes=[
            Scene(
                ["{who}가 {animal}를 데려왔어.", "{who}네 집에 {animal}가 생겼대."],
                ["귀엽겠다! 이름은 지었어?"],
                ["이름은 {pet}라고 해.", "{pet}라고 부르더라."],
                ["{who}네 {animal} 이름이 뭐였지?", "{pet}는 누구네 {animal}야?"],
            )
        ],
        idle=[
            "좋은 아침!",
            "또 비가 온다.",
            "고마워.",
            "지하철이야.",
            "내일 보자.",
            "그렇구나.",
            "천만에.",
        ],
        strange=[
            "잠수함 주차장은 어디였지?",
        ],
    ),
}


def make(tongues: Sequence[Tongue], dialogues: int, seed: int) -> Corpus:
    """A conversation of so many dialogues, in turn in each of the languages, some days apart."""
    chance = random.Random(seed)
    turns: dict[int, Turn] = {}
    questions: list[tuple[str, set[int]]] = []
    used: set[str] = set()
    for count in range(dialogues):
        tongue = tongues[count % len(tongues)]
        question, lines = _dialogue(tongue, chance)
        begun = len(turns) + 1
        for place, (text, _) in enumerate(lines):
            number = len(turns) + 1
            at = BEGUN + count * DAY * chance.uniform(0.4, 0.6) + 40.0 * place
            turns[number] = (
                Turn("user", text, "Ann", float(round(at)), str(100 + 2 * number), len(text) // 4)
                if place % 2 == 0
                else Turn("assistant", text, id=str(98 + 2 * number), tokens=len(text) // 4)
            )
        told = {begun + place for place, (_, matters) in enumerate(lines) if matters}
        if question not in used:
            used.add(question)
            questions.append((question, told))
    return Corpus(turns, questions, [line for tongue in tongues for line in tongue.strange])


def _dialogue(tongue: Tongue, chance: random.Random) -> tuple[str, list[tuple[str, bool]]]:
    """A question, and the lines of a dialogue, with each whether it tells what is asked."""
    scene = chance.choice(tongue.scenes)
    fill = {name: chance.choice(values.split(",")) for name, values in tongue.slots.items()}
    idle = _idle(tongue, chance)
    lines = [(next(idle), False) for _ in range(2 * chance.randrange(3))]
    lines += [(chance.choice(scene.told).format(**fill), True), (chance.choice(scene.answered).format(**fill), False)]
    lines += [(next(idle), False) for _ in range(2 * chance.randrange(2))]
    lines += [(f"{chance.choice(scene.more).format(**fill)} {next(idle)}", True)]
    lines += [(next(idle), False) for _ in range(1 + 2 * chance.randrange(3))]
    return chance.choice(scene.asked).format(**fill), lines


def _idle(tongue: Tongue, chance: random.Random) -> Iterator[str]:
    while True:
        yield " ".join(chance.sample(tongue.idle, chance.choice((1, 1, 2, 3))))
