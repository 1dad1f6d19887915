"""Search spaces: one file is one space, found by its file's name; nothing has to be registered."""

from spaces._find import find as find
from spaces._find import name_of as name_of
from spaces._find import names as names
from spaces._hp import Defaults as Defaults
from spaces._hp import HyperParameters as HyperParameters
from spaces._hp import Parameter as Parameter
from spaces._hp import RandomDraws as RandomDraws
from spaces._hp import Replay as Replay
from spaces._recipe import Recipe as Recipe
from spaces._recipe import read_recipe as read_recipe
from spaces._recipe import sample_recipe as sample_recipe
from spaces._space import Baseline as Baseline
from spaces._space import Cut as Cut
from spaces._space import Space as Space
from spaces._space import canonical as canonical
from spaces._space import config_hash as config_hash
from spaces._space import declared as declared
from spaces._space import reachable as reachable
