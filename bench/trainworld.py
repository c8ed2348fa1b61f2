"""A training job on synthetic token shards, for bench.train: random tokens in documents of real lengths."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from trainer.config import ModelConfig, OptimizerConfig, TrainConfig
from trainer.job import Place, TrainJob
from trainer.mixture import CorpusTokens, Mixture, save_mixture
from trainer.shards import ShardHeader, TokenDocument, write_shard

VOCABULARY = 32_768
MEAN_DOCUMENT_TOKENS = 1_200  # an abstract has 300, an article 5,000


def make_job(setting: Any, folder: Path) -> TrainJob:
    """A job of `bench.train.Setting` on a corpus that is twice as long as its budget."""
    budget = setting.steps * setting.batch_tokens
    words = {"<|begin|>": 0, "<|end|>": 1, **{f"w{number}": number for number in range(2, VOCABULARY)}}
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir()
    Tokenizer(WordLevel(words, unk_token="<|end|>")).save(str(tokenizer / "tokenizer.json"))
    digest = sha256((tokenizer / "tokenizer.json").read_bytes()).hexdigest()
    header = ShardHeader(vocab_size=VOCABULARY, tokenizer_digest=digest, bos_id=0, eos_id=1)
    (folder / "corpus" / "shards").mkdir(parents=True)
    shard = write_shard(folder / "corpus" / "shards" / "00000.arrow", documents(2 * budget), header)
    mixture = Mixture(
        seed=0,
        sequence_tokens=setting.sequence_tokens,
        batch_tokens=setting.batch_tokens,
        token_budget=budget,
        tokenizer_digest=digest,
        vocab_size=VOCABULARY,
        corpora=(CorpusTokens("synthetic", 1_000_000, shard.tokens, shard.documents, (shard,)),),
    )
    save_mixture(mixture, folder / "mixture.json")
    return TrainJob(
        config=TrainConfig(
            model=ModelConfig(preset=setting.preset),
            optimizer=OptimizerConfig(weight_decay=0.0),  # one group of parameters for all contenders
            peak_lr=3e-4,
            precision=setting.precision,
        ),
        mixture=folder / "mixture.json",
        corpora={"synthetic": folder / "corpus"},
        tokenizer=tokenizer,
        output=folder / "out",
        place=Place(
            microbatch_sequences=setting.microbatch_sequences,
            activation_checkpointing=setting.activation_checkpointing,
            attention=setting.attention,
            checkpoint_every_s=3600,
        ),
    )


def documents(num_tokens: int) -> list[TokenDocument]:
    """Random documents of about so many tokens, with lengths as uneven as real ones.

    Low tokens are more frequent, so that there is something to learn: equal losses then say that the same was learnt.
    """
    generator, made, total = np.random.default_rng(0), [], 0
    while total < num_tokens:
        length = 64 + int(generator.exponential(MEAN_DOCUMENT_TOKENS))
        tokens = (2 + (VOCABULARY - 2) * generator.random(length) ** 4).astype(np.uint16)
        tokens[0], tokens[-1] = 0, 1
        made.append(TokenDocument(f"synthetic/{len(made)}", "synthetic", "CC0-1.0", tokens))
        total += length
    return made
