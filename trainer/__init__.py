"""HOW: pretrains and continues a language model on token shards; runs alone under `torchrun -m trainer`.

Reads `train.json`, token shards and, to continue, a Hugging Face directory.
Writes `metrics.jsonl`, `events.jsonl`, `checkpoints/`, `model/` and, last, `done.json`.
Imports torch, transformers, pyarrow, numpy and safetensors only, and never calls back.
"""
