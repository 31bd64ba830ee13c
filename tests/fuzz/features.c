// Sets of io_uring features: a set makes a loop whose plan is printed, or is refused with a line in
// the log.
#include <errno.h>
#include <string.h>

#include <core/engines/sim/sim.h>

#include "target.h"

enum { FEATURES_TEXT_MAX = 512 };

static void features_log(void *context, enum weir_log_level level, const char *text)
{
    (void)level;
    *(size_t *)context += strlen(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[FEATURES_TEXT_MAX];
    struct weir_loop_config config;
    struct weir_loop *loop;
    size_t logged = 0;
    if (size >= sizeof text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    weir_loop_config_init(&config);
    config.uring_features = text;
    config.streams_max = 8;
    config.buffer_count = 8;
    config.log = features_log;
    config.log_context = &logged;
    struct sim *sim = sim_create(1, NULL);
    int error = loop_create_on(&config, sim_base(sim), &loop);
    fuzz_require(error == 0 || error == -EINVAL, "a set is refused with another error");
    fuzz_require(error == 0 || logged > 0, "a set is refused without a reason");
    if (!error) {
        fuzz_require(weir_loop_plan(loop)[0] != '\0', "a set makes no plan");
        weir_loop_destroy(loop);
    }
    sim_destroy(sim);
    return 0;
}
