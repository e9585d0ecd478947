"""When a claim about LEMoE can be tested here: conditions on records, fixed before the runs."""

from lib.reporting.claims import Gate

MOST = 0.5  # of the tokens of a batch, just after it was learnt

# Adaptors that never learnt their edits neither keep nor lose them.
LEARNS = Gate("Rel of a batch just after it was learnt", above=MOST)
# The least of several methods decides: one that has nothing of its first batch has nothing to lose.
ALL_LEARN = Gate("Rel of the first batch just after it was learnt, the least of the methods", above=MOST)
# Both learn most of what they are given at once.
BOTH_LEARN = Gate("Rel of LEMoE or MEMoE, the lesser", above=MOST)
