"""What the labelled messages are made of: names, templates, streets, forms of numbers, by part and language."""

from __future__ import annotations

NAMES: dict[tuple[str, str], str] = {
    ("tuned", "en"): (
        "Sarah Connor|Emma Watts|Priya Nair|Oliver Stone|Jack Donnelly|Mei Chan|Zainab Yusuf|Fergus Doyle|"
        "Kaitlyn Burke|Tunde Bello|Beth Ng|Hank Weaver"
    ),
    ("held", "en"): (
        "Theresa Andrews|Courtney Robinson|Barry Nash|Tyler Ellis|Travis Hart|Crystal Cox|Kevin Pope|"
        "Allison Lowery|Shelby Saunders|Zachary Owens|April Mendoza|Heather Bates|Miguel Ramirez|"
        "Maxwell Atkinson|Cynthia Hale|Rebecca Farmer|Joshua Bishop|Shannon Price|Ruth Hopkins|David Chapman|"
        "Amanda Young|Roger White"
    ),
    ("tuned", "zh"): ("张伟|李娜|王小明|刘德华|欧阳娜娜|陈晓东|赵丽颖|周杰|马云飞|林志玲|高建国|诸葛亮"),
    ("held", "zh"): (
        "曹明|徐金凤|何桂香|杨秀荣|许淑兰|金萍|蒲楠|刘飞|徐红梅|张梅|鞠红霞|李雪|赵桂芳|吕洁|左莹|周瑞|陈帆|汪佳|"
        "张小红|张丹丹|翁秀云|张成|史凤英|李玉兰|陆丽华|蓝倩|龙玉华|王丽娟|谭想|梁强|阳平|麦冬梅|兰雪|邱欣|程龙|"
        "林婷婷|安荣|张杨|汪宇|胥淑英|岳丹|唐桂芝|曾鹏|陈志强|岳雷"
    ),
    ("tuned", "de"): ("Jürgen Habermann|Sabine Krüger|Uwe Schnell|Anneliese Vogt|Kemal Öztürk|Lena Fischer"),
    ("held", "de"): (
        "Mareen Lachmann|Meik Ruppersberger|Sonja Scheibe|Siegward Krebs|Heide-Marie Etzold|Moritz Tlustek|"
        "Margarethe Hübel|Torsten Blümel|Gesche Hövel|Inken Jähn|Karl-Ernst Möchlichen|Heinz-Günter Preiß"
    ),
    ("tuned", "fr"): ("Chantal Besson|Loïc Kervella|Hugo Lemaire|Aminata Diop|Benoît Carpentier|Zoé Marchal"),
    ("held", "fr"): (
        "Maryse Guibert|Valérie Peron|Françoise Mallet|Capucine Bruneau|Édouard Jacquet|Célina Bègue|"
        "Olivie Duhamel|Adrien Dupuis|Clémence Bodin|Franck Monnier|Sébastien Dumas|Gérard Lefèvre"
    ),
    ("tuned", "es"): ("Carmen Ibáñez|Javier Rojas|Lucía Fuentes|Iker Zabala|Montserrat Puig|Diego Salas"),
    ("held", "es"): (
        "Wilfredo Guardia|Narciso Alberdi|Almudena Robledo|Bartolomé Cañete|Baldomero Vidal|Clara Pizarro|"
        "Josué Portillo|Eleuterio Alfaro|Celia Arteaga|Joaquina Hoyos|Hernán Casals|Ainara Millán"
    ),
}
TEMPLATES: dict[tuple[str, str], str] = {
    ("tuned", "en"): r"""
My name is {name} and my number is {phone}.
Can you write to {email} that I am late?
Please call {name} at {phone} about the roof.
I live at {address}, could you find a plumber nearby?
My card is {card}, is that a Visa?
Transfer 200 euros to {iban} please.
My SSN is {id}.
My password is {password} and it does not work.
I was born on {birth}, how old am I?
The server is at {ip} and answers slowly.
Here is my key: {key}
Connect with {url} and count the rows.
My boss {name} wants the report by Friday.
Regards,\n{name}
passport number: {account_id}
Dear Mrs {surname}, thank you for the flowers.
I saw {name} yesterday with her dog.
We flew to New York with Deutsche Bank people and asked Google Maps.
The talk was about Machine Learning, from Stanford University.
Did {name} pay?
What is the capital of Australia?
Order 1234567 shipped on 2024-05-06, it weighs 12.5 kg.
Will you mark May 3rd in the calendar? Bill it to the office.
Version 10.2.3 of the app takes 1,234,567 bytes.
Rose petals and a bit of hope, that is what spring is for.
How do I reset my password?
The meeting is at 10:30 in room 204, from 2024 to 2026.
""",
    ("held", "en"): r"""
Hey, {name} here. You can reach me on {phone} after six.
could you remind {name} that the dentist moved us to Tuesday?
Forward this to {email} and copy {email}, thanks!
I'm {name}, I moved to {address} last week.
The parcel goes to {name}, {address}.
Is {card} a valid credit card number? Expires 04/29.
They want me to pay rent into {iban} before the first.
For the tax form: social security {id}, date of birth {birth}.
my wifi password: {password}
the passcode for the safe is {password}, don't tell the kids
DOB {birth}, weight 71 kg, do I qualify?
Why can't I ping {ip} from the kitchen laptop?
I pasted this into the config and it fails: api_key = {key}
Is it bad that {key} ended up in a public repo?
My script does requests.get("{url}") and hangs.
Met {name} at the conference, write a short follow-up to {email}.
My sister {name} turns forty soon, gift ideas?
Best wishes,\n{name}\nTel: {phone}
Could Dr. {surname} call me back on {phone}?
Is {name}'s flight delayed?
{name} and {name} are both allergic to nuts.
Text {phone} that dinner is ready.
Put {address} on the label.
Ask {name} whether the invoice went to {email}.
tell me a joke about penguins
Translate "good morning" into Portuguese.
Ticket 48213377 was closed on 12 March 2023 after 3 attempts.
How many seconds are in 365 days? I get 31536000.
May I use Amber alerts in Georgia? I will hope for the best.
Explain Newton's laws, Python's GIL and the Paris Agreement.
Explain what a password manager is and why a strong password matters.
Our revenue went from 1,250,000 to 2,375,000 between 2019 and 2022.
Upgrade from 1.24.3.1 to 2.0.0 and run pip install numpy==1.26.4.
Grant access to the Lake House project? Summer is busy, Joy said no one.
""",
    ("tuned", "zh"): r"""
我叫{name}，电话是{phone}。
请联系{name}，邮箱{email}。
我住在{address}，附近有什么好吃的？
我的身份证号是{id}，帮我填表。
银行卡号{card}，开户行是工商银行。
密码是{password}，为什么登不上？
我的生日是{birth}，属什么？
服务器{ip}连不上了。
我的密钥是{key}
{name}说他明天来。
因为{name}生病了，所以没去。
{name}买了两张票。
我和{name}在公司门口等。
老师让{name}回答问题。
收件人：{name}，手机：{phone}，地址：{address}
我老公{name}喜欢吃辣。
{surname}老师今天不在。
我的微信号是{account}，加我吧。
北京今天天气怎么样？
订单号是123456789，什么时候到？
我很高兴，明天去上海出差，马上回来。
2024年5月6日上午10点开会。
怎么修改密码？
请安排一下周一的会议，方便的话带上文件。
这个方法很简单，成本也不高。
""",
    ("held", "zh"): r"""
你好，我是{name}，我的手机号{phone}，请回电。
帮我给{name}发邮件，地址是{email}。
快递寄到{address}，收件人{name}，电话{phone}。
我家地址：{address}
身份证{id}过期了怎么办？
请核对：姓名{name}，证件号码{id}，出生日期{birth}。
这张卡{card}是哪个银行的？
WiFi密码：{password}
登录密码是{password}，别告诉别人。
本人{birth}出生，今年多大？
为什么{ip}一直超时？
我把{key}传到了GitHub上，要紧吗？
脚本里写的是{url}，一直报错。
我儿子{name}今年上小学了。
通知{name}和{name}明天九点开会。
{name}的护照办好了吗？
昨天和{name}吃饭，聊到很晚。
请{surname}医生看一下我的报告。
{surname}总让我写个方案。
有事打{phone}或者写信到{email}。
我的QQ是{account}，有空聊。
如果{name}问起来，就说我不在。
汇款到{iban}，备注房租。
租客{name}住在{address}，月底搬走。
今天晚上吃什么好呢？
把“早上好”翻译成法语。
工单48213377已经关闭，处理用了3天。
一年有31536000秒，对吗？
黄山和庐山哪个更好玩？高铁方便吗？
请解释一下牛顿定律和相对论的关系。
公司收入从1250000元涨到2375000元。
马上就要过年了，全家人都很开心，平安最重要。
任何时候都可以，周末也行，应该没问题。
密码管理器安全吗？
""",
    ("tuned", "de"): r"""
Ich heiße {name} und wohne in der {address}.
Meine Telefonnummer ist {phone}.
Bitte an {email} schicken.
Überweise das auf {iban}.
Mein Passwort lautet {password}.
Ich bin am {birth} geboren: geboren am {birth}.
Frau {surname} kommt um drei.
Ich war mit {name} im Kino.
Der Zug von Bad Homburg hat Verspätung, die Deutsche Bahn zahlt.
Meine Steuer-ID ist {id}.
Wie wird das Wetter morgen in Berlin?
Die Bestellung 1234567 kam am 6. Mai an.
""",
    ("held", "de"): r"""
Guten Tag, mein Name ist {name}, bitte rufen Sie mich unter {phone} zurück.
Schick das Paket an {name}, {address}.
Mein Kollege {name} ist krank, seine Adresse ist {email}.
Lastschrift von {iban}, stimmt die Nummer?
WLAN-Passwort: {password}
Geburtsdatum: {birth}, was für ein Sternzeichen?
Steueridentifikationsnummer {id}, wo trage ich die ein?
Herr {surname} hat gestern {name} getroffen.
Viele Grüße\n{name}
Wann hat {name} Geburtstag?
Erkläre mir bitte den Unterschied zwischen Akkusativ und Dativ.
Die Version 3.11.4 wurde am 12. März 2023 veröffentlicht.
Der Umsatz stieg von 1.250.000 auf 2.375.000 Euro.
""",
    ("tuned", "fr"): r"""
Je m'appelle {name}, mon numéro est le {phone}.
Écris à {email} que j'arrive.
J'habite au {address}.
Mon IBAN est {iban}.
Mon mot de passe est {password}.
Né le {birth}.
Mon numéro de sécurité sociale : {id}
Madame {surname} est absente.
J'ai dîné avec {name} à Saint-Malo.
Il habite à New York, à côté de Central Park.
Quel temps fait-il à Paris demain ?
La commande 1234567 est arrivée le 6 mai.
""",
    ("held", "fr"): r"""
Bonjour, ici {name}, rappelez-moi au {phone} svp.
Envoie le colis à {name}, {address}.
Ma collègue {name} est malade, son adresse est {email}.
Virement vers {iban}, c'est correct ?
mot de passe du wifi : {password}
Date de naissance : {birth}, quel signe ?
NIR {id}, où dois-je le mettre ?
Monsieur {surname} a vu {name} hier.
Cordialement,\n{name}
Quand est-ce que {name} revient ?
Explique-moi la différence entre le passé composé et l'imparfait.
La version 3.11.4 est sortie le 12 mars 2023.
Le chiffre d'affaires passe de 1 250 000 à 2 375 000 euros.
""",
    ("tuned", "es"): r"""
Me llamo {name} y mi teléfono es {phone}.
Escribe a {email} que llego tarde.
Vivo en {address}.
Mi IBAN es {iban}.
Mi contraseña es {password}.
Nací el {birth}.
Mi DNI es {id}.
La señora {surname} no está.
Cené con {name} en Sevilla.
Viajo a Buenos Aires con Air Europa.
¿Qué tiempo hará mañana en Madrid?
El pedido 1234567 llegó el 6 de mayo.
""",
    ("held", "es"): r"""
Hola, soy {name}, llámame al {phone} por favor.
Manda el paquete a {name}, {address}.
Mi compañera {name} está enferma, su correo es {email}.
Transferencia a {iban}, ¿está bien?
contraseña del wifi: {password}
Fecha de nacimiento: {birth}, ¿qué signo?
¿Es válido el DNI {id}?
El señor {surname} vio a {name} ayer.
Saludos,\n{name}
¿Cuándo vuelve {name}?
Explícame la diferencia entre ser y estar.
La versión 3.11.4 salió el 12 de marzo de 2023.
Las ventas pasaron de 1.250.000 a 2.375.000 euros.
""",
}
COPIES = {"en": 8, "zh": 8, "de": 6, "fr": 6, "es": 6}
STREETS: dict[tuple[str, str], tuple[str, ...]] = {
    ("tuned", "en"): (
        "{n} Maple Street, Springfield, IL 62704",
        "{n} Abbey Road, London NW8 9AY",
        "{n} Ocean Drive Apt 4B",
    ),
    ("held", "en"): (
        "{n} Old Mill Lane, Portland, OR 97205",
        "{n} Aguilar Parkway, North Christopher, MT 09657",
        "Flat 3, {n} Claire Court, Cardiff CF10 1EP",
        "{n} W 42nd St, New York",
        "{n} Christine Close",
        "{n} Bishop Ave Suite 12, Denver, CO 80203",
        "{n} Kirby Lights, Darenth, DA9 7BH",
        "{n} Broadway",
    ),
    ("tuned", "zh"): ("上海市浦东新区世纪大道{n}号", "广州市天河区体育西路{n}号3栋502室", "建国路{n}号"),
    ("held", "zh"): (
        "北京市海淀区中关村南大街{n}号",
        "浙江省杭州市西湖区文三路{n}号2单元601室",
        "成都市武侯区科华北路{n}号院7栋",
        "江苏省苏州市工业园区星湖街{n}号",
        "深圳市南山区翠竹花园{n}栋1203",
        "和平里东街{n}号",
        "重庆市渝中区民生路{n}号金鹰大厦15楼",
    ),
    ("tuned", "de"): ("Lindenstraße {n}, 10969 Berlin", "Marktplatz {n}"),
    ("held", "de"): (
        "Sieringgasse {n}, 90830 Marienberg",
        "Klaus-Lindner-Platz {n}, 19935 Pößneck",
        "Kühnertstr. {n}, 65632 Eisenberg",
        "Am Alten Hafen {n}, 28195 Bremen",
        "Rosenweg {n}",
    ),
    ("tuned", "fr"): ("{n} rue de la Paix, 75002 Paris", "{n} avenue Foch"),
    ("held", "fr"): (
        "{n}, boulevard Lamy, 08946 Denis-sur-Hubert",
        "{n} chemin de Hardy, 63996 Chauveau",
        "{n} bis rue du Faubourg Saint-Honoré, 75008 Paris",
        "{n} place des Vosges",
    ),
    ("tuned", "es"): ("Calle Mayor {n}, 28013 Madrid", "Avenida de América {n}"),
    ("held", "es"): (
        "Paseo Leticia Barros {n}, 21587 Vizcaya",
        "Ronda de Ernesto Carranza {n}",
        "C/ Alcalá {n}, 3º B, 28009 Madrid",
        "Plaza de España {n}",
    ),
}
PHONES = {
    "en": (
        "({a}) {b}-{d}",
        "{a}-{b}-{d}",
        "+1 {a} {b} {d}",
        "+1-{a}-{b}-{d}",
        "{a}.{b}.{d}",
        "+44 7911 {s}",
        "020 7946 {d}",
        "07911 {s}",
    ),
    "zh": ("138{e}", "+86 139 {d} {d}", "186-{d}-{d}", "010-6{s}2", "0755 8{s}1", "159 {d} {d}"),
    "de": ("+49 170 {s}1", "0171 {s}2", "030 {s}", "089/{s}3", "+49 (0) 3307 {s}", "(04595) {s}"),
    "fr": ("06 {p} {p} {p} {p}", "+33 6 {p} {p} {p} {p}", "01.{p}.{p}.{p}.{p}", "02{e}"),
    "es": ("+34 612 {p} {p} {p}", "612 {a} {b}", "91 {b} {p} {p}", "+34 6{e}"),
}
BIRTHS = {
    "en": ("{day} {month} {year}", "{month} {day}, {year}", "{year}-{mm}-{dd}", "{mm}/{dd}/{year}"),
    "zh": ("{year}年{m}月{day}日", "{year}-{mm}-{dd}", "{year}年{m}月{day}号"),
    "de": ("{dd}.{mm}.{year}", "{day}. Oktober {year}", "{day}.{m}.{year}"),
    "fr": ("{dd}/{mm}/{year}", "{day} octobre {year}", "{dd}.{mm}.{year}"),
    "es": ("{dd}/{mm}/{year}", "{day} de octubre de {year}", "{dd}-{mm}-{year}"),
}
MONTHS = ("January", "March", "April", "July", "October", "December")
PASSWORDS = {
    "tuned": ("hunter2", "Passw0rd!", "correcthorse", "abc12345", "s3cret#1"),
    "held": (
        "Blu3-Tiger!",
        "qwe789rty",
        "letmein2024",
        "dragonfly",
        "T0m&Jerry",
        "x7$kP9q",
        "maple-river-42",
        "sunflower",
        "Zx!90210",
        "i<3mydog",
    ),
}
