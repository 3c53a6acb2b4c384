"""The rules of ``TICKVIEW_COMPATIBILITY=tickstock``: parameters, bodies and answers as in the TickStock platform."""
