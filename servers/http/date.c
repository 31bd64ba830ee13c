// See date.h.
#include "date.h"

static const char date_days[] = "SunMonTueWedThuFriSat";
static const char date_months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

static char *date_number(char *at, int number, int digits)
{
    for (int i = digits - 1; i >= 0; i--, number /= 10)
        at[i] = (char)('0' + number % 10);
    return at + digits;
}

void http_date_write(time_t time, char ret_text[HTTP_DATE_SIZE])
{
    struct tm parts;
    char *at = ret_text;
    gmtime_r(&time, &parts);
    memcpy(at, date_days + (size_t)3 * (size_t)parts.tm_wday, 3);
    memcpy(at + 3, ", ", 2);
    at = date_number(at + 5, parts.tm_mday, 2);
    *at++ = ' ';
    memcpy(at, date_months + (size_t)3 * (size_t)parts.tm_mon, 3);
    at[3] = ' ';
    at = date_number(at + 4, parts.tm_year + 1900, 4);
    *at++ = ' ';
    at = date_number(at, parts.tm_hour, 2);
    *at++ = ':';
    at = date_number(at, parts.tm_min, 2);
    *at++ = ':';
    at = date_number(at, parts.tm_sec, 2);
    memcpy(at, " GMT", 4);
}

// --- Reading -------------------------------------------------------------------------------------

// Reads along a pattern: D a digit, b a digit or a space, N a month's name, everything else itself.
// The digits of each run become one number.
static bool date_match(struct http_text text, const char *pattern, int *ret_numbers)
{
    size_t i = 0, numbers = 0;
    if (text.size != strlen(pattern))
        return false;
    while (i < text.size) {
        char want = pattern[i];
        if (want == 'N') {
            const char *found = date_months;
            while (*found && memcmp(found, text.data + i, 3) != 0)
                found += 3;
            if (!*found)
                return false;
            ret_numbers[numbers++] = (int)(found - date_months) / 3;
            i += 3;
        } else if (want == 'D' || want == 'b') {
            int number = 0;
            for (; pattern[i] == 'D' || pattern[i] == 'b'; i++) {
                char byte = text.data[i];
                if (pattern[i] == 'b' && byte == ' ')
                    byte = '0';
                if (byte < '0' || byte > '9')
                    return false;
                number = number * 10 + (byte - '0');
            }
            ret_numbers[numbers++] = number;
        } else if (text.data[i++] != want) {
            return false;
        }
    }
    return true;
}

// The second 60 is a leap second's, the first of the next minute to the system's clock.
static bool date_make(const struct tm *parts, time_t *ret_time)
{
    struct tm day = { .tm_year = parts->tm_year,
                      .tm_mon = parts->tm_mon,
                      .tm_mday = parts->tm_mday };
    if (parts->tm_mday < 1 || parts->tm_hour > 23 || parts->tm_min > 59 || parts->tm_sec > 60)
        return false;
    time_t time = timegm(&day);
    if (day.tm_mday != parts->tm_mday) // the 31st of a short month
        return false;
    *ret_time = time + ((time_t)parts->tm_hour * 60 + parts->tm_min) * 60 + parts->tm_sec;
    return true;
}

// A two-digit year (RFC 850): never more than 50 years ahead.
static int date_full_year(int year, time_t now)
{
    struct tm parts;
    gmtime_r(&now, &parts);
    int this_year = parts.tm_year + 1900;
    int full = this_year - this_year % 100 + year;
    return full > this_year + 50 ? full - 100 : full;
}

// The text after a day's name and `separator`; every name is as good as another.
static bool date_skip_day(struct http_text *text, const char *separator, size_t name_max)
{
    size_t size = strlen(separator), i = 3;
    while (i + size < text->size && i <= name_max) {
        if (memcmp(text->data + i, separator, size) == 0) {
            text->data += i + size;
            text->size -= i + size;
            return true;
        }
        i++;
    }
    return false;
}

bool http_date_read(struct http_text text, time_t now, time_t *ret_time)
{
    int n[6];
    struct http_text rest = text;
    if (!date_skip_day(&rest, ", ", 9)) {
        rest = text;
        if (!date_skip_day(&rest, " ", 3) || !date_match(rest, "NNN bD DD:DD:DD DDDD", n))
            return false;
        struct tm parts = { .tm_mon = n[0],
                            .tm_mday = n[1],
                            .tm_hour = n[2],
                            .tm_min = n[3],
                            .tm_sec = n[4],
                            .tm_year = n[5] - 1900 };
        return date_make(&parts, ret_time);
    }
    if (date_match(rest, "DD NNN DDDD DD:DD:DD GMT", n)) {
        n[2] -= 1900;
    } else if (date_match(rest, "DD-NNN-DD DD:DD:DD GMT", n)) {
        n[2] = date_full_year(n[2], now) - 1900;
    } else {
        return false;
    }
    struct tm parts = { .tm_mday = n[0],
                        .tm_mon = n[1],
                        .tm_year = n[2],
                        .tm_hour = n[3],
                        .tm_min = n[4],
                        .tm_sec = n[5] };
    return date_make(&parts, ret_time);
}
