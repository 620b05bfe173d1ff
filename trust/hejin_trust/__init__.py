"""Who is who, and what happened: identities, documents, channels, transparency logs."""
