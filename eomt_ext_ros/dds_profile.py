"""Whether processes should be started under this package's Fast DDS profile; needs no ROS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_FAST_DDS_2_DISTRIBUTIONS = ("humble", "iron", "jazzy")
_FAST_DDS_2_PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
_FAST_DDS_3_PROFILES = "FASTDDS_DEFAULT_PROFILES_FILE"  # it complains of the older name
_USERS_CHOICE = (_FAST_DDS_2_PROFILES, _FAST_DDS_3_PROFILES, "FASTDDS_BUILTIN_TRANSPORTS")


def transports_chosen(environment: Mapping[str, str]) -> bool:
    """Whether the user names a Fast DDS profile or transports.

    >>> transports_chosen({"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}), transports_chosen({})
    (True, False)
    """
    return any(environment.get(name) for name in _USERS_CHOICE)


def profile_environment(environment: Mapping[str, str], profile: Path) -> dict[str, str]:
    """The variables to add so that Fast DDS carries large images between processes; none where the user chose.

    Fast DDS's default transports lose most best-effort images of a megabyte and more. The profile is left out where
    another middleware runs, where the user names a profile or transports, and under ``ROS_LOCALHOST_ONLY``: Humble
    adds its loopback transport to those of a profile, which would go on reaching other hosts.

    Args:
        environment: of the calling process; ``ROS_DISTRO`` tells the version of Fast DDS.
        profile: the XML file.

    >>> profile_environment({"ROS_DISTRO": "humble"}, Path("/share/fastdds.xml"))
    {'FASTRTPS_DEFAULT_PROFILES_FILE': '/share/fastdds.xml'}
    >>> profile_environment({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, Path("/share/fastdds.xml"))
    {}
    """
    middleware = environment.get("RMW_IMPLEMENTATION", "")
    if (
        transports_chosen(environment)
        or (middleware and "fastrtps" not in middleware)
        or environment.get("ROS_LOCALHOST_ONLY") == "1"
    ):
        return {}
    older = environment.get("ROS_DISTRO") in _FAST_DDS_2_DISTRIBUTIONS
    return {_FAST_DDS_2_PROFILES if older else _FAST_DDS_3_PROFILES: str(profile)}
