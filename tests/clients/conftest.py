import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import cloud as clouds  # noqa: E402


@pytest.fixture(scope="session")
def cloud():
    """One simulated cloud for all tests here; each makes what it needs under names of its own."""
    with clouds.simulated() as c:
        yield c


@pytest.fixture(scope="session")
def connection(cloud):
    """openstacksdk as the administrator."""
    import openstack

    e = cloud.admin
    return openstack.connect(
        auth_url=e["OS_AUTH_URL"], username=e["OS_USERNAME"], password=e["OS_PASSWORD"], project_name=e["OS_PROJECT_NAME"],
        user_domain_name=e["OS_USER_DOMAIN_NAME"], project_domain_name=e["OS_PROJECT_DOMAIN_NAME"], region_name=e["OS_REGION_NAME"],
    )
