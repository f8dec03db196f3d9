"""A fault drill without the faults: pairs, questions, the oracle, certificates, recovery, the table (README.md)."""
