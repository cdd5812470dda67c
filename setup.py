"""The version, licence and maintainer come from package.xml; everything declarative is in setup.cfg."""

from glob import glob
from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

manifest = ElementTree.parse(str(Path(__file__).resolve().parent / "package.xml")).getroot()
share = "share/" + str(manifest.findtext("name"))

setup(
    name=manifest.findtext("name"),
    version=manifest.findtext("version"),
    description=manifest.findtext("description"),
    license=manifest.findtext("license"),
    maintainer=manifest.findtext("maintainer"),
    maintainer_email=manifest.find("maintainer").attrib["email"],
    python_requires=">=3.10",  # here and not in setup.cfg: colcon cannot read back what setuptools makes of it there
    packages=find_packages(include=["eomt_ext_core", "eomt_ext_core.*", "eomt_ext_ros", "eomt_ext_ros.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/" + str(manifest.findtext("name"))]),
        (share, ["package.xml"]),
        (share + "/launch", sorted(glob("launch/*.launch.py"))),
        (share + "/config", sorted(glob("config/*"))),
    ],
)
