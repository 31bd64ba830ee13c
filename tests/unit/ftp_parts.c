// The parts of FTP that touch no socket: lines and commands, paths, ASCII conversion, listings,
// users.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ascii.h"
#include "command.h"
#include "facts.h"
#include "path.h"
#include "users.h"

// --- Lines ---------------------------------------------------------------------------------------

// What a reader made of some bytes: each event as a text, one after the other.
struct parts_events {
    char text[8192];
    size_t size;
};

static void parts_note(struct parts_events *events, const char *before, const char *data,
                       size_t size)
{
    events->size += (size_t)sprintf(events->text + events->size, "%s", before);
    memcpy(events->text + events->size, data, size);
    events->size += size;
}

static void parts_feed(struct ftp_reader *reader, const char *data, size_t size,
                       struct parts_events *events)
{
    while (size) {
        switch (ftp_reader_feed(reader, &data, &size)) {
        case FTP_READ_LINE:
            assert_int_equal(reader->line[reader->size], 0);
            parts_note(events, "<", reader->line, reader->size);
            break;
        case FTP_READ_TOO_LONG:
            parts_note(events, "!", "", 0);
            break;
        case FTP_READ_NEGOTIATION:
            parts_note(events, "?", reader->refusal, 3);
            break;
        case FTP_READ_MORE:
            assert_int_equal(size, 0);
            break;
        }
    }
}

static const char parts_input[] =
    "USER bob\r\nNO\xff\xf1OP\n\xff\xfb\x01\xff\xfd\x02\xff\xfe\x03\r\n"
    "\xff\xfaxyz\xff\xff\xff\xf0PWD\r\nCWD a\rb\0c\xff\xff\r\r\n\xff"
    "ABOR\r\nhalf";
static const char parts_expected[] =
    "<USER bob<NOOP?\xff\xfe\x01?\xff\xfc\x02<<PWD<CWD a\rb\nc\xff\r"
    "<ABOR";

// Wherever the input is cut in two or three, the same lines and refusals come out.
static void lines_are_the_same_at_every_cut(void **state)
{
    char line[FTP_LINE_MEMORY];
    size_t size = sizeof parts_input - 1;
    (void)state;
    for (size_t first = 0; first <= size; first++) {
        for (size_t second = first; second <= size; second++) {
            struct ftp_reader reader = { .line = line };
            struct parts_events events = { .size = 0 };
            parts_feed(&reader, parts_input, first, &events);
            parts_feed(&reader, parts_input + first, second - first, &events);
            parts_feed(&reader, parts_input + second, size - second, &events);
            assert_int_equal(events.size, sizeof parts_expected - 1);
            assert_memory_equal(events.text, parts_expected, events.size);
            assert_false(ftp_reader_is_idle(&reader));
        }
    }
}

// Nothing is read beyond the input: each prefix ends at a page that cannot be touched.
static void prefixes_are_read_to_their_end_only(void **state)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = sizeof parts_input - 1;
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char line[FTP_LINE_MEMORY];
    (void)state;
    assert_ptr_not_equal(pages, MAP_FAILED);
    assert_int_equal(mprotect(pages + page, page, PROT_NONE), 0);
    for (size_t prefix = 0; prefix <= size; prefix++) {
        struct ftp_reader reader = { .line = line };
        struct parts_events events = { .size = 0 };
        char *place = pages + page - prefix;
        memcpy(place, parts_input, prefix);
        parts_feed(&reader, place, prefix, &events);
        assert_true(events.size < sizeof parts_expected);
        assert_memory_equal(events.text, parts_expected, events.size);
    }
    munmap(pages, 2 * page);
}

// A line of exactly the longest size passes, one more byte does not, and the next line is read
// again.
static void long_lines_are_refused_as_a_whole(void **state)
{
    char line[FTP_LINE_MEMORY], input[FTP_LINE_MAX + 16];
    (void)state;
    for (size_t size = FTP_LINE_MAX - 2; size < FTP_LINE_MAX + 4; size++) {
        struct ftp_reader reader = { .line = line };
        struct parts_events events = { .size = 0 };
        memset(input, 'x', size);
        memcpy(input + size, "\r\nNOOP\r\n", 8);
        parts_feed(&reader, input, size + 8, &events);
        if (size > FTP_LINE_MAX) {
            assert_int_equal(events.size, 6);
            assert_memory_equal(events.text, "!<NOOP", 6);
        } else {
            assert_int_equal(events.size, 1 + size + 5);
        }
        assert_true(ftp_reader_is_idle(&reader));
    }
}

// --- Commands ------------------------------------------------------------------------------------

// Each verb is found by its name in any case, keeps its argument to the byte, and is not found by
// parts of its name. Its syntax begins with it; one that is never offered has none, and so no 501.
static void every_verb_is_found(void **state)
{
    struct ftp_command command;
    char line[64];
    (void)state;
    for (int verb = 0; verb < FTP_VERBS; verb++) {
        const char *name = ftp_verbs[verb].name;
        if (ftp_verbs[verb].syntax)
            assert_int_equal(strncmp(ftp_verbs[verb].syntax, name, strlen(name)), 0);
        else
            assert_int_equal(ftp_verbs[verb].needs, 0);
        snprintf(line, sizeof line, "%s  two  ", name);
        line[0] |= 32;
        ftp_command_parse(line, &command);
        assert_int_equal(command.verb, verb);
        assert_string_equal(command.argument, " two  ");
        snprintf(line, sizeof line, "%sX a", name);
        ftp_command_parse(line, &command);
        assert_int_equal(command.verb, FTP_VERBS);
        snprintf(line, sizeof line, "%.2s", name);
        ftp_command_parse(line, &command);
        assert_int_equal(command.verb, FTP_VERBS);
        assert_string_equal(command.argument, "");
    }
    ftp_command_parse("xcup", &command);
    assert_int_equal(command.verb, FTP_CDUP);
    ftp_command_parse("GET / HTTP/1.1", &command);
    assert_int_equal(command.verb, FTP_HTTP);
    for (const char *const *odd = (const char *const[]){ "", " ", " USER x", "USER\tx", NULL };
         *odd; odd++) {
        ftp_command_parse(*odd, &command);
        assert_int_equal(command.verb, FTP_VERBS);
    }
}

// --- Paths ---------------------------------------------------------------------------------------

// A path has one form, below the root, whatever dots and slashes it came with.
static void paths_have_one_form(void **state)
{
    static const char *const rows[][3] = {
        { "/", "", "/" },
        { "/", "a", "/a" },
        { "/a/b", "", "/a/b" },
        { "/a/b", ".", "/a/b" },
        { "/a/b", "..", "/a" },
        { "/a/b", "../..", "/" },
        { "/a/b", "../../../../c", "/c" },
        { "/a/b", "/", "/" },
        { "/a/b", "//x///y/", "/x/y" },
        { "/a", "./b/../c/.", "/a/c" },
        { "/a", "...", "/a/..." },
        { "/a", "..b", "/a/..b" },
        { "/a", "b..", "/a/b.." },
        { "/", "-x y", "/-x y" },
    };
    char path[FTP_PATH_MAX], parent[FTP_PATH_MAX];
    const char *name;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(ftp_path_join(rows[i][0], rows[i][1], path), 0);
        assert_string_equal(path, rows[i][2]);
    }
    assert_string_equal(ftp_path_relative("/"), ".");
    assert_string_equal(ftp_path_relative("/a/b"), "a/b");
    assert_false(ftp_path_split("/", parent, &name));
    assert_true(ftp_path_split("/a", parent, &name));
    assert_string_equal(parent, ".");
    assert_string_equal(name, "a");
    assert_true(ftp_path_split("/a/b/c", parent, &name));
    assert_string_equal(parent, "a/b");
    assert_string_equal(name, "c");
}

// Paths as long as the kernel's longest are joined, longer ones refused, and no byte behind
// written.
static void long_paths_are_refused(void **state)
{
    char text[FTP_PATH_MAX + 8], path[FTP_PATH_MAX + 1];
    (void)state;
    for (size_t size = FTP_PATH_MAX - 4; size < FTP_PATH_MAX + 4; size++) {
        memset(text, 'x', size);
        text[size] = '\0';
        path[FTP_PATH_MAX] = 'g';
        int error = ftp_path_join("/", text, path);
        assert_int_equal(error, size + 1 < FTP_PATH_MAX ? 0 : -ENAMETOOLONG);
        assert_int_equal(path[FTP_PATH_MAX], 'g');
    }
}

// Names travel with quotes and Telnet bytes doubled and line feeds as NUL.
static void names_are_encoded(void **state)
{
    char text[64];
    (void)state;
    assert_int_equal(ftp_path_encode("a\"b\nc\xff", true, text), 8);
    assert_memory_equal(text, "a\"\"b\0c\xff\xff", 8);
    assert_int_equal(ftp_path_encode("a\"b", false, text), 3);
    assert_memory_equal(text, "a\"b", 3);
}

// Patterns match whole names, and one with many stars takes no longer than its two sizes
// multiplied.
static void patterns_match_whole_names(void **state)
{
    char name[256];
    (void)state;
    assert_true(ftp_path_matches("*", "a"));
    assert_true(ftp_path_matches("a*c", "abcbc"));
    assert_true(ftp_path_matches("?.t*t", "a.txt"));
    assert_true(ftp_path_matches("**b**", "abc"));
    assert_true(ftp_path_matches(".*", ".a"));
    assert_false(ftp_path_matches("*", ".a"));
    assert_false(ftp_path_matches("?", ""));
    assert_false(ftp_path_matches("a*c", "abcb"));
    assert_false(ftp_path_matches("a", "ab"));
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_false(ftp_path_matches("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", name));
    assert_true(ftp_path_is_pattern("a?"));
    assert_false(ftp_path_is_pattern("a.txt"));
}

// --- ASCII ---------------------------------------------------------------------------------------

static size_t parts_convert(bool decode, const char *data, size_t first, size_t size, char *out)
{
    struct ftp_ascii ascii = { 0 };
    size_t (*convert)(struct ftp_ascii *, const char *, size_t, char *) =
        decode ? ftp_ascii_decode : ftp_ascii_encode;
    size_t count = convert(&ascii, data, first, out);
    count += convert(&ascii, data + first, size - first, out + count);
    if (decode)
        count += ftp_ascii_decode_end(&ascii, out + count);
    return count;
}

// All texts of up to seven CR, LF and letters are converted alike wherever they are cut, as a plain
// definition says, and a file without CR comes back unchanged.
static void conversion_is_right_at_every_cut(void **state)
{
    static const char letters[] = "a\r\n";
    char text[8], wire[32], back[32], expected[32];
    (void)state;
    for (int size = 0; size <= 7; size++) {
        int count = 1;
        for (int i = 0; i < size; i++)
            count *= 3;
        for (int number = 0; number < count; number++) {
            int rest = number;
            size_t encoded = 0, decoded = 0;
            for (int i = 0; i < size; i++, rest /= 3)
                text[i] = letters[rest % 3];
            for (int i = 0; i < size; i++) {
                if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r'))
                    expected[encoded++] = '\r';
                expected[encoded++] = text[i];
            }
            for (size_t cut = 0; cut <= (size_t)size; cut++) {
                assert_int_equal(parts_convert(false, text, cut, (size_t)size, wire), encoded);
                assert_memory_equal(wire, expected, encoded);
            }
            if (!memchr(text, '\r', (size_t)size)) {
                for (size_t cut = 0; cut <= encoded; cut++) {
                    assert_int_equal(parts_convert(true, wire, cut, encoded, back), size);
                    assert_memory_equal(back, text, (size_t)size);
                }
            }
            for (int i = 0; i < size; i++) {
                if (text[i] != '\r' || i + 1 == size || text[i + 1] != '\n')
                    expected[decoded++] = text[i];
            }
            for (size_t cut = 0; cut <= (size_t)size; cut++) {
                assert_int_equal(parts_convert(true, text, cut, (size_t)size, back), decoded);
                assert_memory_equal(back, expected, decoded);
            }
        }
    }
}

// --- Listings ------------------------------------------------------------------------------------

static const struct stat parts_status = { .st_mode = S_IFREG | 04755,
                                          .st_nlink = 2,
                                          .st_uid = 1000,
                                          .st_gid = 100,
                                          .st_size = 12345678901,
                                          .st_mtime = 1000000000,
                                          .st_dev = 0x801,
                                          .st_ino = 255 };

static void parts_assert_line(const char *line, size_t size, const char *expected)
{
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(line, expected, size);
}

// Lines of LIST have the form of `ls -l`: the time of day for half a year, then the year.
static void list_lines_look_like_ls(void **state)
{
    char line[FTP_FACTS_LINE_MAX];
    struct stat status = parts_status;
    struct ftp_entry entry = { .name = "a b", .status = &status };
    (void)state;
    parts_assert_line(line, ftp_facts_list(&entry, 1000000000 + 86400, line),
                      "-rwsr-xr-x    2 1000     100       12345678901 Sep  9 01:46 a b\r\n");
    parts_assert_line(line, ftp_facts_list(&entry, 1000000000 + 200 * 86400, line),
                      "-rwsr-xr-x    2 1000     100       12345678901 Sep  9  2001 a b\r\n");
    parts_assert_line(line, ftp_facts_list(&entry, 1000000000 - 1, line),
                      "-rwsr-xr-x    2 1000     100       12345678901 Sep  9  2001 a b\r\n");
    status.st_mode = S_IFDIR | 01777;
    entry.target = "t";
    parts_assert_line(line, ftp_facts_list(&entry, 1000000000, line),
                      "drwxrwxrwt    2 1000     100       12345678901 Sep  9 01:46 a b -> t\r\n");
}

// Facts have the order, the names and the values of RFC 3659, and only the chosen ones are told.
static void facts_are_those_of_the_rfc(void **state)
{
    char line[FTP_FACTS_LINE_MAX], text[80];
    struct stat status = parts_status;
    struct ftp_entry entry = { .name = "a\nb", .status = &status };
    (void)state;
    size_t size = ftp_facts_machine(&entry, FTP_FACTS_ALL, true, line);
    static const char expected[] = "type=file;size=12345678901;modify=20010909014640;perm=adfrw;"
                                   "unique=8g1gff;UNIX.mode=04755; a\0b\r\n";
    assert_int_equal(size, sizeof expected - 1);
    assert_memory_equal(line, expected, size);
    status.st_mode = S_IFDIR | 0700;
    entry.name = "d";
    parts_assert_line(line, ftp_facts_machine(&entry, FTP_FACT_TYPE | FTP_FACT_SIZE, false, line),
                      "type=dir; d\r\n");
    parts_assert_line(line, ftp_facts_machine(&entry, 0, false, line), " d\r\n");
    assert_int_equal(ftp_facts_parse("size;TYPE;unix.MODE;nothing;siz"),
                     FTP_FACT_SIZE | FTP_FACT_TYPE | FTP_FACT_MODE);
    ftp_facts_print(FTP_FACT_SIZE, true, text);
    assert_string_equal(text, "type;size*;modify;perm;unique;UNIX.mode;");
    ftp_facts_print(FTP_FACT_SIZE | FTP_FACT_PERM, false, text);
    assert_string_equal(text, "size;perm;");
}

// Times are printed and parsed alike; one that no calendar has is refused.
static void times_are_exact(void **state)
{
    static const char *const wrong[] = { "",
                                         "2020010100000",
                                         "202001010000000",
                                         "20200132000000",
                                         "20201301000000",
                                         "20210229000000",
                                         "20200101240000",
                                         "20200101006000",
                                         "20200101000000.",
                                         "20200101000000.x",
                                         "2020010100000x" };
    char text[16];
    time_t time;
    (void)state;
    ftp_facts_time(951827696, text);
    assert_string_equal(text, "20000229123456");
    assert_true(ftp_facts_time_parse(text, 14, &time));
    assert_int_equal(time, 951827696);
    assert_true(ftp_facts_time_parse("20000229123456.789 x", 18, &time));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(ftp_facts_time_parse(wrong[i], strlen(wrong[i]), &time));
}

// --- Users ---------------------------------------------------------------------------------------

// A user's line needs a name and a hash that crypt(3) takes; names are there once.
static void users_are_checked(void **state)
{
    struct ftp_users users = { 0 };
    (void)state;
    char *hash = ftp_users_hash("secret"), line[256];
    assert_non_null(hash);
    assert_int_equal(ftp_users_add(&users, "noname"), -EINVAL);
    assert_int_equal(ftp_users_add(&users, ":x"), -EINVAL);
    assert_int_equal(ftp_users_add(&users, "a:"), -EINVAL);
    assert_int_equal(ftp_users_add(&users, "a:nonsense"), -EINVAL);
    snprintf(line, sizeof line, "eve:%s:/home", hash);
    assert_int_equal(ftp_users_add(&users, line), 0);
    assert_int_equal(ftp_users_add(&users, line), -EEXIST);
    assert_false(users.plain);
    assert_int_equal(ftp_users_add(&users, "bob:plain:pass:word"), 0);
    assert_true(users.plain);
    const struct ftp_user *eve = ftp_users_find(&users, "eve"),
                          *bob = ftp_users_find(&users, "bob");
    assert_string_equal(eve->home, "/home");
    assert_null(ftp_users_find(&users, "ev"));
    assert_int_equal(ftp_users_verify(&users, eve, "secret"), 1);
    assert_int_equal(ftp_users_verify(&users, eve, "secre"), 0);
    assert_int_equal(ftp_users_verify(&users, NULL, "secret"), 0);
    assert_int_equal(ftp_users_verify(&users, bob, "pass:word"), 1);
    assert_int_equal(ftp_users_verify(&users, bob, "pass"), 0);
    assert_int_equal(ftp_users_verify(&users, bob, "pass:word2"), 0);
    assert_int_equal(ftp_users_verify(&users, bob, ""), 0);
    ftp_users_fini(&users);
    free(hash);
}

// Two hashes of one password differ by their salt.
static void hashes_are_salted(void **state)
{
    (void)state;
    char *first = ftp_users_hash("secret"), *second = ftp_users_hash("secret");
    assert_int_equal(strncmp(first, "$y$", 3), 0);
    assert_string_not_equal(first, second);
    free(first);
    free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_the_same_at_every_cut),
        cmocka_unit_test(prefixes_are_read_to_their_end_only),
        cmocka_unit_test(long_lines_are_refused_as_a_whole),
        cmocka_unit_test(every_verb_is_found),
        cmocka_unit_test(paths_have_one_form),
        cmocka_unit_test(long_paths_are_refused),
        cmocka_unit_test(names_are_encoded),
        cmocka_unit_test(patterns_match_whole_names),
        cmocka_unit_test(conversion_is_right_at_every_cut),
        cmocka_unit_test(list_lines_look_like_ls),
        cmocka_unit_test(facts_are_those_of_the_rfc),
        cmocka_unit_test(times_are_exact),
        cmocka_unit_test(users_are_checked),
        cmocka_unit_test(hashes_are_salted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
