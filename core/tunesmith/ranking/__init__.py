"""`tunesmith rank`: a person puts the answers of several models in order, without knowing whose they are.

`prompts` says what is asked, `book` keeps the answers that were drawn, `draw` draws them, `order` shuffles them and
reads what the person says, `judgments` keeps that in a file of rankings, and `tally` counts who won.
"""
