"""The recipe: the science of one domain model, from its sources to its benchmarks. Everything in it decides bytes.

It only composes the configs of the stages, each of which lives with its stage. Paths in it are relative to the
runtime's data directory; `recipe_files.py` reads it from YAML.
"""

from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from domainlm.eval.config import EvaluateConfig, Weights
from domainlm.tasks.acquire import AcquireConfig
from domainlm.tasks.decontaminate import DecontaminateConfig, DecontaminateStageConfig
from domainlm.tasks.deduplicate import DeduplicateConfig
from domainlm.tasks.evaluate import EvaluateStageConfig
from domainlm.tasks.extend_tokenizer import ExtendTokenizerConfig
from domainlm.tasks.filter import FilterConfig
from domainlm.tasks.mix import MixConfig
from domainlm.tasks.publish import PublishConfig
from domainlm.tasks.tokenize import TokenizeConfig
from domainlm.tasks.tokenize_held_out import TokenizeHeldOutConfig
from domainlm.tasks.train_tokenizer import TokenizerConfig
from domainlm.trainer.config import ModelConfig, TrainConfig

POLICIES = ("licenses", "pii")  # of the recipe's filter; they hold for sources with rules of their own, too
NAME = r"^[a-z0-9][a-z0-9_-]*$"


class Source(AcquireConfig):
    """Where raw text comes from: local files, pinned remote ones, or a Hugging Face data set at a commit."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Source")

    path: str | None = Field(
        None,
        title="Path",
        description="Files below the runtime's data directory; `*` and `**` match many. Null for a remote source.",
    )
    filter: FilterConfig | None = Field(
        None,
        title="Filter",
        description="Rules for this source alone, in place of the recipe's. Licences and identifiers are the recipe's "
        "where it names none.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if [self.path is not None, bool(self.urls), self.hub is not None].count(True) != 1:
            raise ValueError(
                f"source {self.name!r} needs one place: `path` (local files), `urls` (remote ones) or `hub` (a "
                "Hugging Face data set)."
            )
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The form asks for name and path first; pydantic puts what is inherited before it."""
        schema = handler(core)
        shown = handler.resolve_ref_schema(schema)
        properties = shown["properties"]
        shown["properties"] = {name: properties[name] for name in ("name", "path", *properties)}
        return schema

    def acquire_config(self) -> AcquireConfig:
        """What decides the acquired bytes, apart from where the files lie."""
        return AcquireConfig(**{name: getattr(self, name) for name in AcquireConfig.model_fields})


@dataclass(frozen=True, kw_only=True)
class TrainRecipe(TrainConfig):
    """Training, from scratch or from given weights"""

    model: ModelConfig | None = None
    """The model to pretrain from scratch; null to continue from `init_from`."""
    init_from: str | None = None
    """Weights to continue from: a Hugging Face directory below the data directory, or `published:RECIPE` for the newest
    model that a recipe of the same domain has published, or `approved:RECIPE` for the newest one that a person has
    approved. Its tokenizer is used. Null trains from scratch."""
    trunk: str | None = None
    """Recipe of the same domain whose published run, of schedule `constant`, this one goes on from: the same training
    but for a larger `mix.token_budget`, which counts the trunk's tokens too, and the schedule. Null begins anew."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.model is None) == (self.init_from is None):
            raise ValueError("training starts from scratch (`model`) or from weights (`init_from`): give one of them.")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The form's descriptions, inherited ones too: pydantic reads the docstrings of one class only."""
        schema = handler(core)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for name, inherited in TypeAdapter(TrainConfig).json_schema()["properties"].items():
            properties[name].setdefault("description", inherited["description"])
        return schema


class Recipe(BaseModel):
    """One domain model: its documents, its tokenizer, its mixture, its training, its benchmarks."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Recipe")

    name: str = Field(title="Name", pattern=NAME, description="Short name of the recipe and of the model it publishes.")
    domain: str = Field(
        title="Domain", pattern=NAME, description="Folder of the store; recipes of one domain share their stages."
    )
    description: str = Field("", title="Description", description="One sentence for the model card.")
    sources: tuple[Source, ...] = Field(title="Sources", min_length=1, description="Where the documents come from.")
    filter: FilterConfig = Field(
        default_factory=FilterConfig, title="Filter", description="Rules that decide which documents are kept."
    )
    deduplicate: DeduplicateConfig = Field(
        default_factory=DeduplicateConfig, title="Deduplicate", description="What counts as the same text twice."
    )
    decontaminate: DecontaminateConfig = Field(
        default_factory=DecontaminateConfig,
        title="Decontaminate",
        description="What counts as overlap with a benchmark, and how many documents are held out.",
    )
    tokenizer: TokenizerConfig | None = Field(
        None, title="Tokenizer", description="Train a tokenizer on the corpora. Null when `train.init_from` brings one."
    )
    extend_tokenizer: ExtendTokenizerConfig | None = Field(
        None,
        title="Extend the tokenizer",
        description="Add the domain's tokens to the tokenizer of `train.init_from`. Null uses it as it is.",
    )
    tokenize: TokenizeConfig = Field(
        default_factory=TokenizeConfig, title="Tokenize", description="How documents become token shards."
    )
    mix: MixConfig = Field(title="Mix", description="Token shares, token budget, sequence and batch.")
    train: TrainRecipe = Field(title="Train", description="Model, optimizer, schedule.")
    evaluate: EvaluateConfig = Field(title="Evaluate", description="Benchmarks and held-out text.")
    publish: PublishConfig = Field(
        default_factory=PublishConfig, title="Publish", description="What the model card says beyond what is computed."
    )

    @model_validator(mode="before")
    @classmethod
    def _domain_is_the_name(cls, raw: object) -> object:
        if isinstance(raw, dict) and "domain" not in raw and "name" in raw:
            return {**raw, "domain": raw["name"]}
        return raw

    @model_validator(mode="before")
    @classmethod
    def _policies_hold_for_every_source(cls, raw: object) -> object:
        """A source that asks for rules of its own must neither open the licence gate nor let identifiers through."""
        if not isinstance(raw, dict) or not isinstance(raw.get("sources"), list | tuple):
            return raw
        return {**raw, "sources": [_with_policies(source, raw.get("filter")) for source in raw["sources"]]}

    @model_serializer(mode="wrap")
    def _policies_once(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Policies that a source has from the recipe are not written as its own: they follow a change in a form."""
        raw: dict[str, Any] = serialize(self)
        for source in raw.get("sources", ()):
            own = source.get("filter") or {}
            for name in POLICIES:
                if name in own and own[name] == raw.get("filter", {}).get(name):
                    del own[name]
        return raw

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = [source.name for source in self.sources]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"sources named twice: {', '.join(repeated)}. Each source needs a name of its own.")
        for rules in (self.filter, *(source.filter for source in self.sources if source.filter)):
            classifier = rules.domain_config()
            for name in (*classifier.seeds, *classifier.others) if classifier else ():
                if name not in names:
                    raise ValueError(
                        f"the rule `domain` learns from {name!r}: no source has this name{_nearest(name, names)}."
                    )
        for name in self.mix.token_shares:
            if name not in names:
                raise ValueError(f"mix.token_shares.{name}: no source has this name{_nearest(name, names)}.")
        if (self.train.schedule.warmup_tokens or 0) >= self.mix.token_budget:
            raise ValueError(
                f"train.schedule.warmup_tokens is {self.train.schedule.warmup_tokens:,} and the whole token budget "
                f"{self.mix.token_budget:,}: the rate would never be reached. Shorten it, or leave it out for a tenth."
            )
        if (self.tokenizer is None) != (self.train.init_from is not None):
            raise ValueError(
                "a model from scratch needs `tokenizer`, and one that continues from `train.init_from` uses the "
                "tokenizer of those weights: give exactly one of the two."
            )
        if self.extend_tokenizer is not None:
            self._check_extension(self.extend_tokenizer)
        return self

    def _check_extension(self, extend: ExtendTokenizerConfig) -> None:
        if self.train.init_from is None:
            raise ValueError(
                "extend_tokenizer has no effect on a model from scratch, whose `tokenizer` is learned from its own "
                "text; remove it, or continue from `train.init_from`."
            )
        for name in extend.sources:
            if name not in self.mixed_sources:
                raise ValueError(
                    f"extend_tokenizer.sources has {name!r}, which the mixture does not train on"
                    f"{_nearest(name, list(self.mixed_sources))}."
                )

    def source(self, name: str) -> Source:
        """The source called `name`."""
        return next(source for source in self.sources if source.name == name)

    @property
    def mixed_sources(self) -> tuple[str, ...]:
        """Sources that are trained on, in the recipe's order."""
        return tuple(source.name for source in self.sources if self.mix.token_shares.get(source.name, 0) > 0)

    def decontaminate_config(self) -> DecontaminateStageConfig:
        """Decontamination is driven by the very benchmarks that evaluation will run."""
        return DecontaminateStageConfig(decontaminate=self.decontaminate, benchmarks=self.evaluate.benchmarks)

    def evaluate_config(self, weights: Weights) -> EvaluateStageConfig:
        """The evaluation of the model, or of its base, at the length that training has taught."""
        context_tokens = self.evaluate.context_tokens or self.mix.sequence_tokens
        evaluate = replace(self.evaluate, context_tokens=context_tokens)
        return EvaluateStageConfig(evaluate=evaluate, weights=weights)

    def tokenize_held_out_config(self) -> TokenizeHeldOutConfig:
        """Training is watched by the very text that evaluation measures."""
        return TokenizeHeldOutConfig(max_bytes=self.evaluate.held_out_bytes)

    def publish_config(self) -> PublishConfig:
        """What the papers say, with the recipe's name and description where they say nothing else."""
        given = self.publish
        return given.model_copy(
            update={"name": given.name or self.name, "description": given.description or self.description}
        )

    def train_config(self) -> TrainConfig:
        """What the trainer is told: all of `train` but where the first weights lie, which enter by content."""
        return TrainConfig(**{field.name: getattr(self.train, field.name) for field in fields(TrainConfig)})


def _with_policies(source: object, shared: object) -> object:
    """A source as it is written, the recipe's licences and identifiers added to its own filter."""
    own = source.get("filter") if isinstance(source, dict) else None
    if not isinstance(source, dict) or not isinstance(own, dict) or not isinstance(shared, dict):
        return source
    policies = {name: shared[name] for name in POLICIES if name in shared}
    both = {**policies, **own}
    if isinstance(policies.get("licenses"), dict) and isinstance(own.get("licenses"), dict):
        both["licenses"] = {**policies["licenses"], **own["licenses"]}
    return {**source, "filter": both}


def _nearest(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; the sources are {', '.join(names)}"
