"""What the server that local workers are forked from imports first, so that they start at once and never stay behind.

A builder that is killed takes its server along, and the server its workers: none goes on writing what the resumed
build writes too. Of itself the server would end only when its last worker has. To import this is to tie the process.
"""

import os

import domainlm.tasks.document_shards  # noqa: F401  # for every worker to have
from domainlm.trainer.supervisor import die_with_parent

die_with_parent()
os.register_at_fork(after_in_child=die_with_parent)
