// The echo protocol on the simulated kernel: the bytes are the run's decisions, those of the kernel
// and of the clients alike, until they are used up; what follows is drawn from a seed.
#include <tests/sim/run.h>

#include "target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct run run;
    if (!run_decided(&run, run_protocol_find("echo"), data, size))
        fuzz_require(0, run.complaint);
    return 0;
}
