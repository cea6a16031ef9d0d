"""Method families. Importing this package registers every plugin in it."""

from plugins import flow_matching as flow_matching
from plugins import meanflow as meanflow
