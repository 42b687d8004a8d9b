"""What of calvin_env (github.com/mees/calvin_env) an evaluation touches: its signatures, and no physics."""
