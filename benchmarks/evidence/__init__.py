"""The measured studies of the documentation: their records are kept in the repository, their pages made from these."""
