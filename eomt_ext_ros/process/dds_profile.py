"""The environment in which Fast DDS carries large images; needs no ROS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_FAST_DDS_2_DISTRIBUTIONS = ("humble", "iron", "jazzy")
_FAST_DDS_2_PROFILES = "FASTRTPS_DEFAULT_PROFILES_FILE"
_FAST_DDS_3_PROFILES = "FASTDDS_DEFAULT_PROFILES_FILE"  # it complains of the older name
_PUBLICATION_MODE = "RMW_FASTRTPS_PUBLICATION_MODE"
_USERS_CHOICE = (_FAST_DDS_2_PROFILES, _FAST_DDS_3_PROFILES, "FASTDDS_BUILTIN_TRANSPORTS")


def transports_chosen(environment: Mapping[str, str]) -> bool:
    """Whether the user chose a Fast DDS profile or transports.

    >>> transports_chosen({"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}), transports_chosen({})
    (True, False)
    """
    return any(environment.get(name) for name in _USERS_CHOICE)


def chosen_profile(environment: Mapping[str, str]) -> str:
    """Return the file of the Fast DDS profile in force; empty if there is none."""
    return environment.get(_FAST_DDS_2_PROFILES) or environment.get(_FAST_DDS_3_PROFILES) or ""


def profile_environment(environment: Mapping[str, str], profile: Path) -> dict[str, str]:
    """Give the variables that let Fast DDS carry large images between processes; none if the user chose.

    Fast DDS's default transports lose most best-effort images of a megabyte and more. The profile is left out if
    another middleware runs, if the user names a profile or transports, and under ``ROS_LOCALHOST_ONLY``: Humble
    adds its loopback transport to those of a profile, which would go on reaching other hosts.

    Args:
        environment: of the calling process; ``ROS_DISTRO`` implies the version of Fast DDS.
        profile: the XML file.

    >>> profile_environment({"ROS_DISTRO": "humble"}, Path("/share/fastdds.xml"))
    {'FASTRTPS_DEFAULT_PROFILES_FILE': '/share/fastdds.xml'}
    >>> profile_environment({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, Path("/share/fastdds.xml"))
    {}
    """
    if transports_chosen(environment) or not _is_fast_dds(environment) or environment.get("ROS_LOCALHOST_ONLY") == "1":
        return {}
    older = environment.get("ROS_DISTRO") in _FAST_DDS_2_DISTRIBUTIONS
    return {_FAST_DDS_2_PROFILES if older else _FAST_DDS_3_PROFILES: str(profile)}


def publication_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Give the variable that lets the node publish without waiting; none if the user chose.

    A thread of Fast DDS then sends while the node works on what it publishes next, and no slow receiver holds it up. An
    output that has not been sent when the next one of its topic is published is replaced by it, so that what publishes
    in bursts should not run so.

    >>> publication_environment({}), publication_environment({"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"})
    ({'RMW_FASTRTPS_PUBLICATION_MODE': 'ASYNCHRONOUS'}, {})
    """
    if environment.get(_PUBLICATION_MODE) or not _is_fast_dds(environment):
        return {}
    return {_PUBLICATION_MODE: "ASYNCHRONOUS"}


def _is_fast_dds(environment: Mapping[str, str]) -> bool:
    middleware = environment.get("RMW_IMPLEMENTATION", "")
    return not middleware or "fastrtps" in middleware
