// The slab: records that never overlap, are used again, and are gone after fini.
#include "slab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// AddressSanitizer ends a program that asks for too much, unless it is told to answer like malloc.
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

// Records of every size are aligned to 16 bytes and keep what is written to them while others are
// taken, over several chunks.
static void records_are_aligned_and_never_overlap(void **state)
{
    static const size_t sizes[] = { 1, 16, 17, 100, 4096, 65536, 200000 };

    (void)state;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct slab slab;
        unsigned char *records[256];

        slab_init(&slab, sizes[s]);
        assert_true(slab.size >= sizes[s]);
        // Chunks of about 64 KiB, or one record where that is more.
        assert_true(slab.batch >= 1);
        assert_true(slab.batch == 1 || slab.batch * slab.size <= 65536);
        assert_true((slab.batch + 2) * slab.size > 65536);
        for (unsigned i = 0; i < 256; i++) {
            records[i] = slab_take(&slab);
            assert_non_null(records[i]);
            assert_int_equal((uintptr_t)records[i] % 16, 0);
            memset(records[i], (int)i, sizes[s]);
        }
        assert_int_equal(slab.taken, 256);
        for (unsigned i = 0; i < 256; i++) {
            assert_int_equal(records[i][0], i);
            assert_memory_equal(records[i], records[i] + sizes[s] / 2, sizes[s] - sizes[s] / 2);
            slab_give(&slab, records[i]);
        }
        assert_int_equal(slab.taken, 0);
        slab_fini(&slab);
    }
}

// A record that was given back is the next one taken, so memory does not grow with use.
static void given_records_are_taken_again(void **state)
{
    struct slab slab;
    void *chunks;

    (void)state;
    slab_init(&slab, 64);
    void *kept = slab_take(&slab);
    void *first = slab_take(&slab);
    slab_give(&slab, first);
    assert_ptr_equal(slab_take(&slab), first);
    slab_give(&slab, first);
    chunks = slab.chunks;
    for (int i = 0; i < 100000; i++)
        slab_give(&slab, slab_take(&slab));
    assert_ptr_equal(slab.chunks, chunks);
    slab_give(&slab, kept);
    slab_fini(&slab);
    assert_null(slab.chunks);
}

// Over any sequence of takes and gives, no record is in use twice.
static void random_takes_and_gives_keep_records_apart(void **state)
{
    enum { LIVE_MAX = 3000, STEPS = 200000 };
    static struct {
        uint64_t *record;
        uint64_t mark;
    } live[LIVE_MAX];
    struct slab slab;
    uint32_t count = 0;

    (void)state;
    slab_init(&slab, 40);
    srand(1);
    for (uint64_t step = 1; step <= STEPS; step++) {
        if (count < LIVE_MAX && (count == 0 || rand() % 2)) {
            live[count].record = slab_take(&slab);
            live[count].mark = step;
            live[count].record[0] = step;
            live[count++].record[4] = step;
        } else {
            uint32_t i = (uint32_t)rand() % count;

            assert_int_equal(live[i].record[0], live[i].mark);
            assert_int_equal(live[i].record[4], live[i].mark);
            slab_give(&slab, live[i].record);
            live[i] = live[--count];
        }
        assert_int_equal(slab.taken, count);
    }
    slab_fini(&slab);
}

// When memory is out, take says so, changes nothing, and fini has nothing to free.
static void take_without_memory_returns_null(void **state)
{
    struct slab slab;

    (void)state;
    slab_init(&slab, PTRDIFF_MAX / 2);
    assert_null(slab_take(&slab));
    assert_int_equal(slab.taken, 0);
    assert_null(slab.chunks);
    slab_fini(&slab);
}

// A set has one slab per rounded size, finds it again, and refuses more sizes than it has places.
static void set_finds_one_slab_per_size(void **state)
{
    static struct slab_set set;

    (void)state;
    for (size_t i = 1; i <= SLAB_SET_MAX; i++) {
        struct slab *slab = slab_set_find(&set, i * 16);

        assert_non_null(slab);
        assert_int_equal(slab->size, i * 16);
        assert_non_null(slab_take(slab));
    }
    assert_int_equal(set.count, SLAB_SET_MAX);
    for (size_t i = 1; i <= SLAB_SET_MAX; i++)
        assert_ptr_equal(slab_set_find(&set, i * 16 - 15), &set.slabs[i - 1]);
    assert_null(slab_set_find(&set, 1000000));
    slab_set_fini(&set);
    assert_int_equal(set.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_aligned_and_never_overlap),
        cmocka_unit_test(given_records_are_taken_again),
        cmocka_unit_test(random_takes_and_gives_keep_records_apart),
        cmocka_unit_test(take_without_memory_returns_null),
        cmocka_unit_test(set_finds_one_slab_per_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
