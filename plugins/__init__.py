"""Method families. Importing this package registers every plugin in it."""

from plugins import categorical as categorical
from plugins import compositional as compositional
from plugins import consistency as consistency
from plugins import distribution as distribution
from plugins import drifting as drifting
from plugins import eulerian as eulerian
from plugins import flow_matching as flow_matching
from plugins import lagrangian as lagrangian
from plugins import meanflow as meanflow
from plugins import tilting as tilting
