"""An invented pharmacopoeia: the corpus that ships with domainlm, its benchmarks, and the truth about both."""
