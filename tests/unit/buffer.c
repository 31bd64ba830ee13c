// The receive-buffer pool: who has which buffer, and memory that is not paid for before it is used.
#include "buffer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { COUNT = 64, SIZE = 16384 };

// Every buffer can be taken exactly once; then there is none.
static void each_buffer_is_taken_once(void **state)
{
    struct buffer_pool pool;
    bool seen[COUNT] = { false };

    (void)state;
    assert_int_equal(pool_init(&pool, COUNT, SIZE), 0);
    for (int i = 0; i < COUNT; i++) {
        int index = pool_take(&pool);

        assert_in_range(index, 0, COUNT - 1);
        assert_false(seen[index]);
        seen[index] = true;
    }
    assert_int_equal(pool_take(&pool), -1);
    pool_fini(&pool);
}

// Buffers begin at pages, do not overlap, and can be written from end to end.
static void buffers_are_whole_pages_of_their_own(void **state)
{
    struct buffer_pool pool;

    (void)state;
    assert_int_equal(pool_init(&pool, COUNT, SIZE), 0);
    assert_int_equal((uintptr_t)pool.memory % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
    for (uint32_t i = 0; i < COUNT; i++)
        memset(pool_data(&pool, i), (int)i, SIZE);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(pool_data(&pool, i)[0], i);
        assert_int_equal(pool_data(&pool, i)[SIZE - 1], i);
    }
    pool_fini(&pool);
}

// A fresh pool has no page in memory, and taking and leasing do not bring one.
static void memory_is_untouched_until_used(void **state)
{
    enum { PAGES = COUNT * SIZE / 4096 };
    unsigned char resident[PAGES];
    struct buffer_pool pool;
    int count = 0;

    (void)state;
    if (sysconf(_SC_PAGESIZE) != 4096) {
        print_message("pages are not 4 KiB here\n");
        skip();
    }
    assert_int_equal(pool_init(&pool, COUNT, SIZE), 0);
    pool_lease(&pool, (uint32_t)pool_take(&pool));
    assert_int_equal(mincore(pool.memory, (size_t)COUNT * SIZE, resident), 0);
    for (int i = 0; i < PAGES; i++)
        count += resident[i] & 1;
    assert_int_equal(count, 0);
    pool_fini(&pool);
}

// A lease returns its buffer at the last release and not before, and the counts follow.
static void last_release_frees_the_buffer(void **state)
{
    struct buffer_pool pool;
    struct weir_lease *lease;
    int index;

    (void)state;
    assert_int_equal(pool_init(&pool, COUNT, SIZE), 0);
    index = pool_take(&pool);
    lease = pool_lease(&pool, (uint32_t)index);
    assert_int_equal(lease->index, index);
    lease->count += 2;
    assert_int_equal(pool.leased, 1);
    pool_release(&pool, lease);
    pool_release(&pool, lease);
    assert_int_equal(pool.free_count, COUNT - 1);
    assert_int_equal(pool.leased, 1);
    pool_release(&pool, lease);
    assert_int_equal(pool.free_count, COUNT);
    assert_int_equal(pool.leased, 0);
    // The warmest buffer is the next.
    assert_int_equal(pool_take(&pool), index);
    pool_fini(&pool);
}

// The pool is scarce as soon as more than half of its buffers are leased, and no longer than that.
static void more_than_half_leased_is_scarce(void **state)
{
    struct buffer_pool pool;
    struct weir_lease *leases[COUNT];

    (void)state;
    assert_int_equal(pool_init(&pool, COUNT, SIZE), 0);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(pool_scarce(&pool), i > COUNT / 2);
        leases[i] = pool_lease(&pool, (uint32_t)pool_take(&pool));
    }
    for (int i = COUNT; i > 0; i--) {
        assert_int_equal(pool_scarce(&pool), i > COUNT / 2);
        pool_release(&pool, leases[i - 1]);
    }
    pool_fini(&pool);
}

// Over any sequence of takes, leases, holds, releases and gives, no buffer is lost or in two
// places.
static void random_use_loses_no_buffer(void **state)
{
    enum { STEPS = 200000 };
    struct buffer_pool pool;
    uint32_t counts[COUNT] = { 0 }, leased = 0;

    (void)state;
    assert_int_equal(pool_init(&pool, COUNT, SIZE), 0);
    srand(2);
    for (int step = 0; step < STEPS; step++) {
        int i = rand() % COUNT, index;

        if (counts[i] > 0 && rand() % 2) {
            pool_release(&pool, &pool.leases[i]);
            leased -= --counts[i] == 0;
        } else if (counts[i] > 0) {
            pool.leases[i].count++;
            counts[i]++;
        } else if ((index = pool_take(&pool)) >= 0) {
            assert_int_equal(counts[index], 0);
            if (rand() % 4) {
                pool_lease(&pool, (uint32_t)index);
                counts[index] = 1;
                leased++;
            } else {
                pool_give(&pool, (uint32_t)index);
            }
        }
        assert_int_equal(pool.leased, leased);
        assert_int_equal(pool.free_count + leased, COUNT);
    }
    pool_fini(&pool);
}

// A size that no address space holds is -ENOMEM, and the pool is left as after fini.
static void impossible_size_is_enomem(void **state)
{
    struct buffer_pool pool;

    (void)state;
    assert_int_equal(pool_init(&pool, 32768, (size_t)1 << 45), -ENOMEM);
    assert_null(pool.memory);
    pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_buffer_is_taken_once),
        cmocka_unit_test(buffers_are_whole_pages_of_their_own),
        cmocka_unit_test(memory_is_untouched_until_used),
        cmocka_unit_test(last_release_frees_the_buffer),
        cmocka_unit_test(more_than_half_leased_is_scarce),
        cmocka_unit_test(random_use_loses_no_buffer),
        cmocka_unit_test(impossible_size_is_enomem),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
