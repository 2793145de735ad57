"""Lines that somebody said, and questions about them that share no word with them but those that every text has.

All is made up. What a word search makes of them is chance; what knows that a cello is an instrument finds them.
PAIRS, STRANGE and STRANGER were looked at while the floors were chosen. LATER and STRANGEST were written after that,
and nothing was changed for what they showed.
"""

from __future__ import annotations

import random

from dialogues import BEGUN, CHINESE, DAY, ENGLISH, Corpus, make

from roost.contracts import Turn

PAIRS = """
My daughter started playing the cello in March. | Which instrument is my girl learning?
The lawnmower broke down halfway across the grass. | What garden machine gave up on me?
I am allergic to peanuts, they nearly killed me once. | Which nuts can't I eat because of my health?
Our flight to Lisbon leaves on the ninth at dawn. | On what date do we travel by plane to Portugal?
The landlord raised our rent by eighty euros. | How much more does the apartment cost us every month?
My brother proposed to his girlfriend on the beach. | Where did my sibling ask for her hand in marriage?
I sold the old Volvo to a student for nine hundred. | What price did I get for my car?
The dentist pulled out one of my wisdom teeth. | Which tooth had to be removed at the clinic?
We painted the bedroom pale green last weekend. | What colour are the walls where we sleep?
Grandma was born in a village near Krakow in 1931. | Where in Poland does my grandmother come from?
I take two pills against high blood pressure each morning. | What medicine helps with my hypertension?
The puppy chewed through my leather boots. | Which shoes did the little dog destroy?
My boss wants the quarterly report before Friday noon. | What is the deadline for the document my manager asked for?
I burned the lasagna because I fell asleep. | Which pasta dish did I ruin in the oven?
The bakery on the corner closes every Monday. | On which weekday can't I buy bread nearby?
Her wedding will be in a castle by the lake. | At what venue is the marriage ceremony?
I ran the half marathon in under two hours. | How fast did I finish the race?
We named the baby Matilda after her great aunt. | What did the parents call their newborn girl?
The roof leaks above the staircase when it pours. | Where does rain drip into the house?
My uncle keeps bees behind his cottage. | Who in the family produces honey?
I failed my driving test because of parallel parking. | Why didn't I get the licence for the car?
The vet says the cat weighs too much. | Which pet is overweight?
I borrowed thirty euros from Pavel for the taxi. | To whom do I owe money for the cab?
Our heating broke during the coldest night of winter. | What stopped warming the flat in January?
The surgeon operated on my left knee. | On which joint did I have surgery?
My sister teaches chemistry at a grammar school. | What subject does she give lessons in to pupils?
We adopted two kittens from the shelter. | How many young cats did we take in?
The concert was cancelled because the singer caught a cold. | Why did the band not perform the gig?
I quit smoking on New Year's Eve. | When did I give up cigarettes?
The neighbours keep a rooster that crows at four. | Which bird wakes everybody before sunrise?
My passport expires next summer. | Which travel document is soon no longer valid?
I spilled red wine on the white carpet. | Which drink stained the rug?
He works night shifts as a nurse in the hospital. | What is his profession in the medical ward?
The tomatoes on the balcony are finally ripe. | Which vegetables can be harvested outside the window?
Someone stole my bicycle in front of the library. | What got taken by a thief?
We watch the football final at Hector's place. | Whose home do we go to for the soccer match?
The toddler has a fever and a rash. | Which symptoms does the small child show?
I want to be buried under an oak. | What kind of tree do I wish for above my grave?
The company went bankrupt after the scandal. | What happened to the insolvent firm's finances?
I learned Portuguese from an old radio course. | Which foreign language did I study with audio lessons?
My phone fell into the toilet yesterday. | What device got wet by accident in the bathroom?
The mortgage is paid off in eleven years. | How long until the home loan is settled?
I always drink oat milk with my coffee. | Which dairy alternative goes into my espresso?
My aunt moved into a retirement home. | Where does the elderly relative live nowadays?
The hikers got lost in the fog below the summit. | Why couldn't the people on the mountain find the path?
We celebrate our anniversary in a small Greek restaurant. | Where do my wife and I dine to mark the years together?
The washing machine floods the cellar each time. | Which appliance puts the basement under water?
My son hates maths but loves drawing. | What school subject does my boy dislike?
The electrician comes on Tuesday to fix the lamp. | When is somebody repairing the light?
I broke my wrist snowboarding in the Alps. | What bone injury came from winter sports?
The novel won a prize and sold a million copies. | Which award-winning book became a bestseller?
Dad retired after forty years on the railway. | Where had my father worked with trains all his career?
The soup was far too salty for the guests. | What tasted bad to the visitors?
I parked behind the theatre on level three. | On which floor did I leave the car?
Our internet provider doubles the speed for free. | Which firm gives us faster broadband at no charge?
The judge ruled in favour of the tenant. | What was the court's decision about the renter?
I cannot sleep without earplugs. | What do I need against noise at night in bed?
The choir rehearses in the church basement. | In what building do the singers practise?
My cousin became vegetarian after visiting a slaughterhouse. | Who in the family no longer eats meat?
The hurricane destroyed the pier. | What did the storm wreck at the harbour?
I inherited a gold watch from my grandfather. | Which piece of jewellery did grandpa leave me?
The kids built a treehouse out of pallets. | What did the children construct from wood in the garden?
We eat dinner late because of the swimming lessons. | Why is our evening meal delayed by the pool course?
The burglar came through the kitchen window. | How did the intruder enter the home?
My colleague resigned to open a brewery. | Who left the office in order to make beer?
The exam covers the French Revolution and Napoleon. | Which period of history will be tested at university?
I dye my hair because it turned grey at thirty. | Why do I colour the strands on my head?
The ferry crosses to the island twice a day. | How often does the boat sail over the sea?
My glasses broke and the optician is on holiday. | What do I miss for seeing properly?
The orchestra hired a new conductor from Finland. | From which Scandinavian country is the leader of the musicians?
I cried at the end of that old film. | Which movie made me weep?
The mechanic says the brakes are worn out. | What part of the vehicle is unsafe according to the garage?
We grow lemons in the greenhouse. | Which citrus fruit do we cultivate under glass?
The plumber charged two hundred for ten minutes. | How expensive was fixing the pipe?
My nephew collects stamps from Africa. | Who has a hobby with postage?
The ambulance arrived within five minutes. | How quickly did the paramedics get here?
I dropped out of law school after a year. | What degree did I abandon at the university?
The tent was soaked after the thunderstorm. | What camping gear got drenched by rain?
She speaks Welsh with her grandchildren. | In which Celtic language does the old lady talk to the little ones?
The museum is free on the first Sunday. | When need one not pay a ticket for the exhibition?
"""

OTHERS = """
Meine Tochter lernt seit März Cello. | Welches Instrument spielt mein Mädchen?
Der Rasenmäher ist mitten auf der Wiese kaputtgegangen. | Welche Gartenmaschine funktioniert nicht mehr?
Unser Vermieter hat die Miete um achtzig Euro erhöht. | Wie viel teurer wurde das Wohnen?
Ich habe mir beim Skifahren das Handgelenk gebrochen. | Welche Verletzung stammt vom Wintersport?
Jemand hat mein Fahrrad gestohlen. | Was nahm der Dieb mit?
Mi hermano le pidió matrimonio a su novia en la playa. | ¿Dónde se comprometió la pareja?
El dentista me sacó una muela del juicio. | ¿Qué diente perdí en la clínica?
Vendí el coche viejo por novecientos euros. | ¿Cuánto dinero recibí por el automóvil?
Mi abuela nació en un pueblo cerca de Cracovia. | ¿De qué lugar de Polonia viene la familia?
我女儿三月份开始学大提琴。 | 孩子在练哪种乐器？
房东把房租涨了八十欧元。 | 公寓每月贵多少钱？
我的自行车在图书馆门口被偷了。 | 小偷拿走哪样东西？
我对花生过敏。 | 哪种坚果不能吃？
外公留给我一块金表。 | 祖父的遗产有哪件首饰？
"""

# What one might well ask, and nobody ever spoke of.
STRANGE = """
Which opera did we see at the festival in Verona?
How deep is the well on the farm?
What did the astronomer say about the comet?
Who knitted the scarf for the teacher?
Which chess opening does my opponent prefer?
When does the tax office send the refund?
What was the name of the horse that won the derby?
How many guitars hang in the music shop?
Which mushroom is poisonous according to the ranger?
Why did the printer jam during the presentation?
What is the recipe for elderflower syrup?
Which vaccine do I need for the jungle?
Who repaired the church organ?
How tall is the new skyscraper downtown?
What did the fortune teller predict?
Which sword did the knight carry in the play?
When was the bridge over the canyon built?
How do I sharpen a chisel?
What frequency does the radio station use?
Who is the mayor of the town?
Which spices go into garam masala?
What is the dog's microchip number?
How often should I water the orchid?
Which lawyer handled the divorce?
"""

# The same, and more of the everyday.
STRANGER = """
Who won the chess tournament in the retirement club?
What did the carpenter charge for the wardrobe?
Which perfume does my mother-in-law like?
How many eggs go into the sponge cake?
When does the pumpkin festival begin?
Where did we bury the hamster?
Which airline lost our luggage?
What size are my ski boots?
How high was the electricity bill?
Which poem did she recite at the funeral?
Who fixed the piano pedals?
What did the archaeologists dig up near the quarry?
Which vitamins did the nutritionist suggest?
How long does the battery of the drone last?
What was the score of the hockey game?
Where can I rent a kayak?
Which brand of tyres is on the motorbike?
Who translated the contract into Turkish?
What is the combination of the safe?
When was my last tetanus shot?
Which candidate did the union support?
How do you say thank you in Finnish?
Which comedian was on television yesterday?
What colour was the parrot's beak?
How much sugar is in the jam?
Where is the spare key to the garage?
Which volcano erupted last year?
What did the accountant say about depreciation?
Who sang at the harbour festival?
When do the swallows come back?
"""

LATER = """
My wife bakes rye loaves every Saturday. | What bread does my spouse make at the weekend?
The goldfish died while we were on holiday. | Which pet did not survive our vacation?
I twisted my ankle playing tennis. | Which injury came from a racket sport?
Our daughter got accepted at medical school. | Is my child going to study to be a doctor?
The chimney must be swept before October. | What needs cleaning prior to the autumn heating season?
I lent my ladder to the neighbour. | Who has the steps that I climb to reach the roof?
He plays the trumpet in a jazz quartet. | Which brass instrument does the musician perform on?
The elevator in our building is stuck again. | What is out of order in the apartment house?
We are having twins in April. | How many babies are we expecting this spring?
I forgot my umbrella on the tram. | What did I leave behind in public transport?
My father-in-law refuses to wear his hearing aid. | Which device for deaf people does the old man dislike?
The cheese in the fridge has gone mouldy. | Which dairy product is spoiled?
She is writing her thesis about whales. | What sea animals is her dissertation on?
The tax return is due at the end of May. | By when do I have to declare my income?
I bought a second-hand piano for the living room. | Which used instrument stands in our lounge?
My sister hates flying and takes the train. | Who is scared of airplanes?
The cat brought a dead mouse into the bedroom. | Which rodent was carried inside by our pet?
We planted an apple tree for our son. | What fruit grows in honour of the boy?
The doctor told me to stop eating sugar. | Which sweet food is forbidden by my physician?
Uncle Leo drives a garbage truck. | What kind of vehicle does my relative steer at work?
The snow blocked the road to the cabin. | Why could we not reach the hut in winter?
I have been learning to knit socks. | Which handicraft am I practising with wool?
The kids are scared of the basement. | Which room frightens the children?
My colleague married a firefighter. | What is the profession of my coworker's husband?
"""

STRANGEST = """
Which tailor shortened the trousers?
How many pages does the manuscript have?
What did the lifeguard shout?
When is the meteor shower?
Who invented the zipper?
Which cactus blooms at night?
What is the melting point of tin?
How do I descale the kettle?
Who won the spelling bee?
What did the senator promise?
Which bank financed the tunnel?
How long is the marathon of Berlin?
Where do we keep the fire extinguisher?
What was wrong with the satellite dish?
Which yoga pose helps against stress?
Who designed the logo?
When did the circus leave?
What type of clay does the potter use?
Which coin is missing from the album?
How far is the nearest petrol station?
"""


def pairs(text: str) -> list[tuple[str, str]]:
    """Lines, and the question about each."""
    return [(told.strip(), asked.strip()) for told, _, asked in (row.partition("|") for row in text.split("\n") if row)]


def mixed(told: list[tuple[str, str]], dialogues: int, seed: int, strange: str = STRANGE + STRANGER) -> Corpus:
    """A conversation in which each line is said once, between dialogues about other things."""
    chance = random.Random(seed)
    rest = list(make([ENGLISH, CHINESE], dialogues, seed).turns.values())
    places = sorted(chance.sample(range(0, len(rest), 2), len(told)))
    turns: dict[int, Turn] = {}
    questions: list[tuple[str, set[int]]] = []
    for place, turn in enumerate(rest):
        if len(questions) < len(told) and place == places[len(questions)]:
            line, asked = told[len(questions)]
            at = BEGUN + DAY * place
            questions.append((asked, {len(turns) + 1}))
            turns[len(turns) + 1] = Turn("user", line, "Ann", at, f"told-{place}", len(line) // 4)
            turns[len(turns) + 1] = Turn("assistant", "I see. Tell me more.", id=f"told-{place}", tokens=5)
        turns[len(turns) + 1] = turn
    return Corpus(turns, questions, [line for line in strange.split("\n") if line])
