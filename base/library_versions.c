#include "base/library_versions.h"

#include <archive.h>
#include <json-c/json.h>
#include <xxhash.h>
#include <yaml.h>

#include "base/hdf5_file.h"

Status base_library_versions(StrBuf *out)
{
    unsigned h5[3], xx = XXH_versionNumber();
    h5_library_version(h5);
    return strbuf_printf(out, "HDF5 %u.%u.%u, libarchive %s, json-c %s, libyaml %s, xxHash %u.%u.%u", h5[0], h5[1],
                         h5[2], archive_version_details(), json_c_version(), yaml_get_version_string(), xx / 10000,
                         xx / 100 % 100, xx % 100);
}
