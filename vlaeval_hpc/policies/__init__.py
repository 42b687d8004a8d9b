"""Policies, one file a family; they run inside the policy's own environment or image, behind the server."""
