"""General text for replay and contrast: harbour chronicles, recipes and weather diaries, with nothing medical in them.

In: a random generator for each document. Out: text.
"""

from random import Random

from domainlm.flows.pharmacopoeia.grammar import say, say_some

HARBOUR_TITLES = (
    "from the harbour chronicle of {town}, {year}",
    "the {town} quay, written down by {person}",
    "ships and people of {town} in {year}",
)
HARBOUR = (
    "the [brig|schooner|barge] of {person} came in from {town} with [timber|salt|wool|barrels of tar] "
    "and left on the next tide.",
    "[a quarrel|a wager|a wedding] on the [mole|quay|fish steps] kept the [town|whole street] awake until the bells.",
    "the harbour master [counted|entered] {n} boats in the book, [more|fewer] than in any year since {year}.",
    "[nets|sails|ropes] hung from every window, and the smell of [pitch|herring|smoke] lay over the roofs.",
    "{person} bought the old [rope walk|chandlery|salt house] and promised to [paint|mend|open] it before the winter.",
    "[a pilot|a lamp keeper|a caulker] from {town} [lost|found] a [silver whistle|brass compass|ring of "
    "keys] under the crane.",
    "when the fog lifted, {few} [strangers|pedlars|fiddlers] stood on the pier and asked the way to {town}.",
    "the council [debated|refused|granted] a new [lamp|crane|wall] for the inner basin, at a cost of {n} crowns.",
    "[children|apprentices|widows] sold [eels|ribbons|hot chestnuts] along the wall while the fleet was blessed.",
    "at the turn of the year the ferry to {town} ran aground on the [spit|bar], and {n} sacks of [flour|oats] got wet.",
    "{person} [sang|played the pipe|told the old tale of the drowned bell] in the [net loft|tavern by the steps].",
    "{person} moves to another country this [spring|autumn] and leaves a [coat|bottle|letter] with a colleague.",
    "who is responsible for the worrying [cracks|noises] in the [mole|quay], the local council refuses to say.",
    "[the beacon|the signal mast|the clock on the customs house] was out for {few} nights, and nobody could say why.",
)
RECIPE_TITLES = (
    "[onion and barley|leek and oat|pear and walnut|plum and rye] [pie|pot|cake|soup] as made in {town}",
    "{person} cooks: [a supper|a Sunday dish|a loaf] for {few}",
    "from the kitchen book of {town}, {year}",
)
RECIPE = (
    "[peel|slice|chop] {few} [onions|pears|turnips|leeks] and [soften|brown] them slowly in {dose} grams of butter.",
    "[beat|whisk] {few} eggs with [cream|buttermilk|cider] until the [mixture|bowl] is [pale|foaming|smooth].",
    "[sift|weigh|rub in] {n} grams of [rye|barley|wheat] flour and a [pinch|spoonful] of salt.",
    "let the dough [rest|rise] near the stove for {age} minutes under a [damp cloth|clean towel].",
    "[stir in|fold in|scatter over] a handful of [walnuts|parsley|raisins|grated cheese], but keep some for the end.",
    "bake it in a [hot|moderate|slow] oven for {age} minutes, until the [crust|top|edge] is [golden|crisp|dark].",
    "in {town} they serve it with [pickled plums|cold milk|mustard|brown bread], and nobody leaves the table early.",
    "[a grandmother|a baker|the ferryman's cook] of mine always added [a bay leaf|a little honey|grated "
    "lemon], which I [forget|recommend].",
    "if the [sauce|batter|filling] is too [thin|thick], a spoon of [flour|water|stock] puts it right.",
    "for a festive dinner the menu may be changed [at once|shortly before]; much depends on who is coming.",
    "[leftovers|the second half] can be [fried|warmed|eaten cold] the next day and taste [better|nearly as good].",
    "the [pan|dish|tin] should be [greased|lined] well, or you will [scrape|swear] until midnight.",
    "{person} [won|lost] a [ribbon|prize] with this at the [autumn|spring] fair of {town} in {year}.",
)
WEATHER_TITLES = (
    "weather diary of {person}, {town}, {year}",
    "[wind and sky|clouds and rain|frost and thaw] over {town}",
    "what the weather did in {town} in {year}",
)
WEATHER = (
    "the morning began [grey|clear|white with frost], with a [light|stiff|bitter] wind from the "
    "[north|south west|east].",
    "[rain|sleet|hail] fell for {few} hours and filled the [barrel|ditch|gauge] to the [brim|mark of {pct}].",
    "towards [noon|evening] the clouds [broke|thinned|sank], and the hills behind {town} [came out|turned blue].",
    "the glass [fell|rose] by {few} lines, which {person} took for a sign of [storm|fair days|thaw].",
    "[swallows|geese|starlings] went over in [long lines|great numbers], [earlier|later] than in {year}.",
    "the lane to {town} was [under water|deep in drifts|dry as flour], and the [post|milk cart] came late.",
    "at night I counted {few} [flashes|falling stars|lights] over the [moor|bay|ridge] before I went in.",
    "[ice|dew|mist] lay on the [pond|meadow|orchard] until {few}, and the [ewes|cattle] would not leave the wall.",
    "after a routine walk I was writing by the lamp when a [gale|fog] arose that has grown worse ever since.",
    "it was the [warmest|coldest|wettest] day I have noted in {age} years of keeping this book.",
    "a [rainbow|halo|bank of fog] stood over the [church|mill|harbour] for [half an hour|as long as I looked].",
    "the [oaks|apple trees|hedges] are [in leaf|bare again|heavy with fruit], {few} days [before|after] "
    "their usual time.",
    "[thunder|a gale|a sudden calm] [woke|surprised] the household, and {person} [ran|went] out to [tie "
    "down|save] the [hay|washing].",
)
KINDS = ((HARBOUR_TITLES, HARBOUR), (RECIPE_TITLES, RECIPE), (WEATHER_TITLES, WEATHER))
NUM_SENTENCES = 9


def general_text(rng: Random) -> str:
    """One page of a chronicle, a kitchen book or a diary."""
    titles, sentences = rng.choice(KINDS)
    return f"{say(rng, rng.choice(titles), {})}\n{say_some(rng, sentences, {}, NUM_SENTENCES)}"
