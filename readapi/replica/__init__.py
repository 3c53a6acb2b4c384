"""The columnar replica of the active patterns: what one API process answers from without asking anybody."""
