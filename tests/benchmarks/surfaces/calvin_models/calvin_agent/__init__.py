"""What of calvin_agent (github.com/mees/calvin) an evaluation touches: the chains, and its place beside conf/."""
