"""The articles that come as PubMed XML and as JATS, each beside the specimen that says what should become of it."""

from dataclasses import replace
from random import Random

from domainlm.flows.pharmacopoeia.abstracts import safety_abstract, trial_abstract
from domainlm.flows.pharmacopoeia.benchmarks import trial_questions
from domainlm.flows.pharmacopoeia.cases import case_report
from domainlm.flows.pharmacopoeia.specimen import Specimen
from domainlm.flows.pharmacopoeia.world import World
from domainlm.flows.pharmacopoeia.xml_files import JatsArticle, PubmedArticle

NUM_PUBMED, NUM_PMID_LEAKS, NUM_JATS = 40, 4, 12
FIRST_PMID, FIRST_PMC = 98_000_001, 99_000_001  # beyond what PubMed and PMC have given out
OPEN = ("licenses/by/4.0/", "licenses/by/3.0/", "publicdomain/zero/1.0/")


def trial_articles(world: World, *, seed: int) -> tuple[list[PubmedArticle], list[Specimen]]:
    """Abstracts of PubMed: one is taken back later, and some are articles that benchmark questions were made from."""
    articles, specimens = [], []
    asked = trial_questions(world, seed=seed)
    for number in range(NUM_PUBMED):
        rng = Random(f"pubmed:{seed}:{number}")
        drug = world.drugs[number % len(world.drugs)]
        abstract = trial_abstract(rng, rng.choice(world.trials)) if number % 2 else safety_abstract(rng, drug)
        found = Specimen("pubmed", str(FIRST_PMID + number), str(abstract), None)
        if number == 1:
            found = replace(found, kind="deleted", fate="deleted")
        elif number >= NUM_PUBMED - NUM_PMID_LEAKS:
            pmid = asked[number].pmid
            found = replace(found, id=pmid, kind="leak_pmid", fate="leak", evidence=(pmid,))
        year, mesh = 1990 + number % 30, (drug.indication.capitalize(), drug.name.capitalize(), "Humans")
        articles.append(PubmedArticle(found.id, abstract, year=year, mesh=mesh))
        specimens.append(found)
    return articles, specimens


def case_articles(world: World, *, seed: int) -> tuple[list[JatsArticle], list[Specimen]]:
    """Case reports of PMC under open licences, a closed one, and none."""
    articles, specimens = [], []
    for number in range(NUM_JATS):
        rng = Random(f"jats:{seed}:{number}")
        text = case_report(rng, world.drugs[-1 - number])
        title, _, body = text.partition("\n")
        found = Specimen("jats", f"PMC{FIRST_PMC + number}", text, None)
        url = f"https://creativecommons.org/{OPEN[number % len(OPEN)]}"
        if number == NUM_JATS - 2:
            url = "https://creativecommons.org/licenses/by-nc/4.0/"
            found = replace(found, kind="license_nc", fate="license")
        elif number == NUM_JATS - 1:
            url = ""
            found = replace(found, kind="license_missing", fate="license")
        articles.append(JatsArticle(found.id, title, body, url, year=2001 + number))
        specimens.append(replace(found, license_url=url or None))
    return articles, specimens
