// The one place where the version stands; pyproject and the Python package read it from here.
#pragma once

#define AIRCACHE_VERSION "0.1.0"
