"""The loader: tokens a second, and the jump to any step: `python -m bench.loader [--json] [--gigabytes 1]`.

Real shards (1 GB by default) are written and read in batches of 64 sequences of 2,048 tokens, on one core and one
thread; the jump is from nothing open to the tensors of a step in the middle. 1 TB is done by arithmetic: a mixture of
as many shards as that, of which only the sampler's part of a jump is timed, since no shard has to be read for it. Against it,
in the same run on the same documents: Hugging Face `datasets` streaming from the same Arrow files, packed by hand into the same
sequences, `skip` for the jump; that is what its documentation offers to resume. `same_result`: both give the same
tokens in the same order of the corpus.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from trainer.ledger import open_streams
from trainer.loader import Loader
from trainer.mixture import CorpusTokens, Mixture, ShardInfo
from trainer.sampler import Sampler
from trainer.shards import ShardHeader, TokenDocument, write_shard

SEQUENCE, BATCH_SEQUENCES, VOCABULARY = 2048, 64, 32_768
BATCH = SEQUENCE * BATCH_SEQUENCES
HEADER = ShardHeader(VOCABULARY, "b" * 64, 0, 1)
SHARD_BYTES = 128 * 2**20
STEPS_TIMED = 60
JUMPS = 20
TERABYTE = 10**12
