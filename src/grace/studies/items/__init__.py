"""
The stimuli that Grace ships, as data: one YAML file for each built-in study.

All stories, scenarios and names were written for Grace. No sentence, theme or
pair of names comes from the published stimuli, so that a model which has
memorised those has no advantage here. `grace.studies.make` turns the files into
trials; nothing in this package is code.
"""
