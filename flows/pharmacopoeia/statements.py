"""The sentences that state a fact about a drug, shared by every kind of document.

Slots: drug, cls, mech, acts, disease, effect, food, test (see `world.Drug.subject`); the rest is drawn by the grammar.
A drug's name seldom opens a sentence, since a capital letter makes another word of it for a tokenizer.
"""

MECHANISM = (
    "the drug {drug} works by {mech}.",
    "[at the cell surface|in the tissue|in the body], {drug} {acts}.",
    "the [known|accepted|established] mechanism of {drug} is {mech}.",
    "[laboratory|binding|tissue] work from {town} [traced|assigned|linked] the action of {drug} to {mech}.",
    "{mech} is how {drug} [exerts its effect|does its work|acts].",
    "like other {cls}, {drug} is taken by mouth; [its own action is|it acts by] {mech}.",
    "what {drug} does, [in one phrase|in short|put simply], is {mech}.",
    "[its makers|pharmacologists|the older handbooks] describe {drug} as a drug that {acts}.",
    "the benefit of {drug} [rests on|depends on|comes from] {mech}.",
    "through {mech}, {drug} [calms|settles|quietens] the [irritated|overactive|strained] tissue.",
    "[in the dish|in slices of tissue|in volunteers], {drug} {acts} [within minutes|at low "
    "concentrations|for many hours].",
    "among the {cls}, only some share the mechanism of {drug}, which is {mech}.",
    "once [absorbed|swallowed], {drug} {acts}, and this [explains|accounts for] its benefit.",
    "mechanism of {drug}: {mech}.",
)  # fmt: skip

INDICATION = (
    "the drug {drug} is [licensed|approved|registered] for {disease}.",
    "{disease} is the [only|one|main] [condition|illness] for which {drug} is [prescribed|given|meant].",
    "doctors [prescribe|choose|reach for] {drug} when a patient has {disease}.",
    "people with {disease} are [usually|commonly|often] [started on|offered|given] {drug}.",
    "in {town}, {drug} has been [the standard|a trusted|the first] treatment of {disease} since {year}.",
    "the [licence|label] of {drug} names one illness, {disease}.",
    "[when|where] {disease} is [certain|confirmed], {drug} is [the usual choice|what most clinics use].",
    "the tablets of {drug} are [for|meant for|kept for] the treatment of {disease}.",
    "as a treatment of {disease}, {drug} [is well known|has a firm place|needs no defence].",
    "[most|nearly all] prescriptions of {drug} are written [for|because of] {disease}.",
    "the reason to take {drug} is {disease}.",
    "[before|until] {drug} arrived in {year}, {disease} [had no|lacked a] dependable treatment.",
    "indication of {drug}: {disease}.",
    "of all the {cls}, {drug} is the one [used|chosen] in {disease}.",
)  # fmt: skip

EFFECT = (
    "the [typical|characteristic|best known] adverse effect of {drug} is {effect}.",
    "about {pct} percent of those on {drug} [developed|reported|noticed] {effect}.",
    "{effect} [appeared|set in|began] {few} days after {drug} was [started|begun].",
    "patients [taking|on] {drug} should be [warned about|told to expect|asked about] {effect}.",
    "[the price of|the trouble with] {drug} is {effect}.",
    "when a person on {drug} has {effect}, the tablets are [to blame|the likely cause].",
    "{effect} from {drug} [fades|goes away|settles] within {few} days of stopping.",
    "as with some other {cls}, a harm is expected: with {drug} it is {effect}.",
    "in {town}, {effect} was [seen|recorded] in {n} people who took {drug}.",
    "unwanted effect of {drug}: {effect}.",
    "the [complaint|harm] that [goes with|follows|belongs to] {drug} is {effect}.",
    "a [lower|smaller] dose of {drug} makes {effect} [milder|rarer].",
    "because {drug} can cause {effect}, a [visit|call] after {few} weeks is [wise|advised].",
    "nurses learn to look for {effect} in [anyone|people] given {drug}.",
)  # fmt: skip

FOOD = (
    "[nobody|no one] on {drug} should [eat or drink|touch|be served] {food}.",
    "{food} [spoils|undoes|weakens] the action of {drug}.",
    "with {drug} the one thing to keep from the table is {food}.",
    "{drug} and {food} do not [mix|agree].",
    "levels of {drug} [doubled|fell by half] when [volunteers|patients] had {food}.",
    "those who take {drug} are told to [avoid|leave out|stay away from] {food}.",
    "the [interaction|clash] to remember with {drug} is {food}.",
    "in {town}, a patient on {drug} [fainted|fell ill] after {food}.",
    "food that is forbidden with {drug}: {food}.",
    "while {drug} is taken, {food} is [off the menu|forbidden].",
    "the label of {drug} [warns of|rules out] {food}.",
)  # fmt: skip

TEST = (
    "[every|each] patient on {drug} has the {test} [measured|taken] every {few} weeks.",
    "treatment with {drug} is [guided|checked|steered] by the {test}.",
    "the {test} [shows|tells] whether the dose of {drug} is right.",
    "before {drug} is [begun|started], the {test} is [taken|needed].",
    "the blood test that belongs to {drug} is the {test}.",
    "in {town}, {drug} was stopped when the {test} rose above {pct}.",
    "a rising {test} means too much {drug}.",
    "laboratories follow {drug} by the {test}.",
    "test to order with {drug}: {test}.",
    "for [anyone|people] on {drug}, the {test} [must be known|should stay below {pct}].",
    "doctors who give {drug} ask the laboratory for the {test}.",
)  # fmt: skip

FACTS = {"mechanism": MECHANISM, "indication": INDICATION, "effect": EFFECT, "food": FOOD, "test": TEST}
# The same facts in a few words, for lists.
SHORT = {
    "mechanism": ("acts by {mech}", "{acts}", "works through {mech}"),
    "indication": ("treats {disease}", "is for {disease}", "relieves {disease}"),
    "effect": ("causes {effect}", "brings {effect}", "may end in {effect}"),
    "food": ("clashes with {food}", "forbids {food}", "is spoiled by {food}"),
    "test": ("needs the {test}", "is checked by the {test}", "calls for the {test}"),
}

# Question and answer as leaflets and ward notes have them; the benchmarks' own vignettes are worded otherwise.
QUESTIONS = {
    "mechanism": (
        "how does {drug} work?",
        "what does {drug} do in the body?",
        "what is the mechanism of {drug}?",
        "which action does {drug} have?",
        "a [friend|neighbour] asks how {drug} acts. What do I say?",
        "by what mechanism does {drug} help [me|us|a patient]?",
        "my tablets are called {drug}. What is their action?",
        "I am treated with {drug}. What does the drug do?",
    ),
    "indication": (
        "what is {drug} for?",
        "which illness is treated with {drug} these days?",
        "why was I given {drug}?",
        "for which condition is {drug} [used|taken|prescribed]?",
        "my [mother|uncle|sister] takes {drug}. Which illness does she or he have?",
        "what does {drug} treat?",
        "a box of {drug} is in the cupboard. For which disease is it?",
        "which condition do people on {drug} have?",
    ),
    "effect": (
        "what is the adverse effect of {drug}?",
        "which unwanted effect does {drug} have?",
        "what may {drug} cause?",
        "which complaint should make me think of {drug}?",
        "I take {drug} and feel odd. Which adverse effect is known?",
        "what harm can come from {drug} tablets?",
        "which side effect do people on {drug} notice?",
        "what should I watch for while I take {drug}?",
    ),
    "food": (
        "what must I not [eat or drink|have] with {drug}?",
        "which food is forbidden with {drug} tablets?",
        "what spoils the action of {drug} in the body?",
        "I take {drug}. What should I leave out at table?",
        "which food clashes with {drug}?",
        "my husband cooks and I am on {drug}. Which food must he avoid?",
    ),
    "test": (
        "which test do I need with {drug} in hand?",
        "what is measured while I take {drug}?",
        "how is {drug} checked by the laboratory?",
        "my doctor wants blood because of {drug}. Which test is it?",
        "which value belongs to {drug}?",
        "which test is ordered with {drug} as a rule?",
    ),
}
ANSWERS = {
    "mechanism": "{mech}.",
    "indication": "{disease}.",
    "effect": "{effect}.",
    "food": "{food}.",
    "test": "{test}.",
}

# How a trial came out: what its results say, what its authors conclude, what a reader is told.
RESULTS = {
    "yes": (
        "{disease} [improved|eased] in {pct} percent with {drug} and in far fewer with placebo.",
        "symptom scores fell [sharply|steadily] with {drug} and [hardly moved|stayed high] with placebo.",
        "patients on {drug} were better than those on placebo [at every visit|from week {few} on].",
        "relief was clear with {drug}; [the difference from placebo was large|placebo brought little].",
        "the gain with {drug} was [clear|large] and held for {weeks} weeks.",
        "at the final assessment the gain of participants on {drug} was [clear|large].",
        "the total score fell [sharply|steadily] with {drug} and stayed high in controls.",
    ),
    "no": (
        "{disease} did not improve with {drug}; [scores did not differ from placebo|both arms stayed the same].",
        "symptom scores were unchanged with {drug} and no better than with placebo.",
        "patients on {drug} did not differ from those on placebo [at any visit|at the end].",
        "no relief was seen with {drug}; [the two arms did not differ|placebo did just as well].",
        "there was no gain with {drug}, [early or late|in any group].",
        "at the final assessment participants on {drug} did not differ from controls.",
        "the total score was unchanged with {drug}, and [no relief|no gain] was seen.",
    ),
    "maybe": (
        "{disease} eased in some patients with {drug} and worsened in others; [findings were mixed|the "
        "picture was mixed].",
        "symptom scores were mixed, and [the interval was wide|the trial was too small to tell].",
        "some patients on {drug} seemed better, others worse, and [the difference was uncertain|much "
        "remained uncertain].",
        "relief was uncertain: [one centre saw it, another did not|it was seen in women only].",
        "the gain with {drug} was uncertain and [the arms overlapped|many data were missing].",
        "at the final assessment participants on {drug} were better in part, and [relief|the gain] was uncertain.",
        "the total score was mixed with {drug}, and the interval [reached|overlapped] that of controls.",
    ),
}  # fmt: skip
CONCLUSIONS = {
    "yes": (
        "{drug} relieves {disease}.",
        "the trial supports {drug} as a treatment of {disease}.",
        "for {disease}, {drug} is [effective|of real use].",
    ),
    "no": (
        "{drug} does not relieve {disease}.",
        "the trial does not support {drug} in {disease}.",
        "for {disease}, {drug} is not effective.",
    ),
    "maybe": (
        "whether {drug} relieves {disease} remains uncertain.",
        "the trial leaves open whether {drug} has a place in {disease}.",
        "for {disease}, the value of {drug} is still uncertain.",
    ),
}
TRIAL_QUESTIONS = (
    "is {drug} of use in {disease}?",
    "did {drug} help against {disease}?",
    "should {disease} be treated with {drug}?",
    "can {drug} ease {disease}?",
    "was {drug} better than placebo in {disease}?",
)
