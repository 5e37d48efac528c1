#include "base/library_versions.h"

#include <archive.h>
#include <hdf5.h>
#include <json-c/json.h>
#include <xxhash.h>
#include <yaml.h>

Status base_library_versions(StrBuf *out)
{
    unsigned major = 0, minor = 0, release = 0, xx = XXH_versionNumber();
    H5get_libversion(&major, &minor, &release);
    return strbuf_printf(out, "HDF5 %u.%u.%u, libarchive %s, json-c %s, libyaml %s, xxHash %u.%u.%u", major, minor,
                         release, archive_version_details(), json_c_version(), yaml_get_version_string(), xx / 10000,
                         xx / 100 % 100, xx % 100);
}
