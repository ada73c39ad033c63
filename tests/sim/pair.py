"""Old names of parts of `sansnet_core.testing`."""

from sansnet_core.testing import GATEWAY as GATEWAY
from sansnet_core.testing import GATEWAY6 as GATEWAY6
from sansnet_core.testing import OUTSIDER as OUTSIDER
from sansnet_core.testing import OUTSIDER6 as OUTSIDER6
from sansnet_core.testing import SECRET as SECRET
from sansnet_core.testing import SERVER as SERVER
from sansnet_core.testing import SERVER6 as SERVER6
from sansnet_core.testing import Pair as Pair
from sansnet_core.testing import make_config as make_config

__all__ = ["GATEWAY", "GATEWAY6", "OUTSIDER", "OUTSIDER6", "Pair", "SECRET", "SERVER", "SERVER6", "make_config"]
