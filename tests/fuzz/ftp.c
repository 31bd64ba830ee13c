// The FTP server as it is on the simulated kernel: the first byte chooses the run's faults, the
// rest is what a client sends. Whatever that is, the run holds.
#include <tests/sim/raw.h>

#include "target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run run;
    if (!run_raw(&run, run_protocol_find("ftp"), data, size))
        fuzz_require(0, run.complaint);
    return 0;
}
