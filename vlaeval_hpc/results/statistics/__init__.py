"""How far numbers can be trusted: intervals, comparisons, families of them, and what more episodes would tell."""
