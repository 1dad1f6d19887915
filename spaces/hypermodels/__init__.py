"""KerasTuner's HyperModels and `build(hp)` functions, as they are, as spaces.

`reference` reads what names one, `space` makes the Space, `draws` remembers what its build() draws, `explore` finds
all that it can draw, `noted` keeps that for the next time. Those run where the search runs and import no Keras.
`stranger`, `handed`, `compiled` and `builder` run where Keras is, in a helper process or a worker: they load the
stranger's code, build with it, and look at what it made and how it is to be trained.
"""
