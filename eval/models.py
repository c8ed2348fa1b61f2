"""Loading what is evaluated: a Hugging Face directory, or its untrained twin, from local files only.

In: config.json, model.safetensors, tokenizer.json and its companions. Nothing is fetched, no code from the directory
is run, no pickle is read. Out: the model in evaluation mode, and an `Encoder` of text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from domainlm.eval.config import Weights
from domainlm.trainer.model import build_on_meta, fresh_weights, given_config, materialise

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Encoder:
    """Text to token ids, exactly as the tokenizer splits it: no token is added, and "</s>" in a text is only text."""

    tokenizer: Tokenizer
    prefix_id: int
    unknown_id: int | None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def load_model(directory: Path, *, weights: Weights, seed: int, dtype: str, device: str) -> PreTrainedModel:
    """The model of a Hugging Face directory; `untrained` keeps its architecture and draws weights from `seed`."""
    if not (directory / "config.json").is_file():
        raise FileNotFoundError(f"no config.json in {directory}: `model` must be a Hugging Face model directory.")
    model = _trained(directory, DTYPES[dtype]) if weights == "trained" else _untrained(directory, seed, DTYPES[dtype])
    return model.to(pick_device(device)).eval()


def load_encoder(directory: Path, model: PreTrainedModel) -> Encoder:
    """The tokenizer of a directory, refused if it does not fit the model."""
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"{directory} has a {type(tokenizer).__name__}, need a fast tokenizer (tokenizer.json).")
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"the tokenizer in {directory} has {len(tokenizer)} entries, the model {model.config.vocab_size}. "
            "They do not belong together: export the model with the tokenizer it was trained with."
        )
    prefix_id = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if prefix_id is None:
        raise ValueError(f"the tokenizer in {directory} has neither bos nor eos token: a text's first token needs one.")
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True
    return Encoder(backend, prefix_id, tokenizer.unk_token_id)


def pick_device(device: str) -> str:
    """`auto` is the first CUDA device if there is one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def context_limit(model: PreTrainedModel, asked: int | None) -> int:
    """How many tokens to read at once: what was asked for, else the limit that the model's config states."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(limit, int):
        raise ValueError(f"{type(model.config).__name__} states no `max_position_embeddings`: add it to config.json.")
    if asked is not None and asked > limit:
        raise ValueError(f"context_tokens is {asked}, but the model reads at most {limit}. Use {limit} or less.")
    return limit if asked is None else asked


def _trained(directory: Path, dtype: torch.dtype) -> PreTrainedModel:
    model, loading = AutoModelForCausalLM.from_pretrained(
        directory,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=dtype,
        output_loading_info=True,
    )
    wrong = {kind: sorted(map(str, keys)) for kind, keys in loading.items() if keys}
    if wrong:
        raise ValueError(
            f"the weights in {directory} do not fit its config.json: {wrong}. transformers would fill the gaps with "
            "random numbers; export the model again."
        )
    return model


def _untrained(directory: Path, seed: int, dtype: torch.dtype) -> PreTrainedModel:
    """The very weights that a training from scratch with this seed starts from."""
    config = given_config(directory)
    model = build_on_meta(config, z_loss=0.0)
    materialise(model, torch.device("cpu"), fresh_weights(config, seed))
    return model.causal.to(dtype)
