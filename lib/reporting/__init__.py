"""From records to what a reader sees: tables, figures, claims."""
