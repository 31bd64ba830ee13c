// What clients of HTTP say.
#include "script.h"

#define HOST "Host: a\r\n"
#define LAST "Connection: close\r\n"
#define GET(path, headers) "GET " path " HTTP/1.1\r\n" HOST headers "\r\n"
#define HEAD(path, headers) "HEAD " path " HTTP/1.1\r\n" HOST headers "\r\n"
#define SMALL_END "This is its end.\n"
#define OLD_DATE "Thu, 02 Jan 2020 03:04:05 GMT"

// A connection of its own for what the server answers and then ends.
#define ALONE(text) OPEN, SAY(text), ENDED
#define SAY(text) WRITE(text)

const struct script http_scripts[] = {
    { "keep-alive",
      &served_files,
      "404 Not Found",
      { OPEN, SAY(GET("/small.txt", "")), WAIT(SMALL_END), SAY(GET("/page.html", "")),
        WAIT("<p>A page.</p>\n"), SAY(GET("/small.txt", "")), WAIT(SMALL_END),
        SAY(GET("/empty.bin", "")), WAIT("Content-Length: 0"), PAUSE(3), SAY(GET("/missing", "")),
        WAIT("404 Not Found"), SAY(GET("/small.txt", LAST)), ENDED, OPEN,
        SAY("GET /small.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), WAIT(SMALL_END),
        SAY("GET /page.html HTTP/1.0\r\n\r\n"), ENDED } },
    { "pipelined",
      &served_files,
      "304 Not Modified",
      { ALONE(GET("/small.txt", "") GET("/page.html", "") GET("/missing", "") HEAD("/large.bin", "")
                  GET("/dir/", "") GET("/empty.bin", "")
                      GET("/small.txt", "If-Modified-Since: " OLD_DATE "\r\n")
                          GET("/small.txt", "Range: bytes=3-7\r\n") GET("/small.txt", LAST)
                              GET("/never", "")),
        OPEN, SAY("GET /small.txt HTT"), PAUSE(2),
        SAY("P/1.1\r\n" HOST "\r\nGET /page.html HTTP/1.1\r\nHo"), PAUSE(2), SAY("st: a\r\n\r"),
        PAUSE(2), SAY("\n" GET("/dir/", LAST)), ENDED } },
    { "ranges",
      &served_files,
      "416 Range Not Satisfiable",
      { OPEN,
        SAY(GET("/small.txt", "Range: bytes=0-5\r\n") GET("/small.txt", "Range: bytes=5-\r\n") GET(
            "/small.txt", "Range: bytes=-9\r\n") GET("/large.bin", "Range: bytes=70000-139999\r\n")
                GET("/large.bin", "Range: bytes=299990-400000\r\n")),
        SAY(GET("/large.bin", "Range: bytes=300000-\r\n") GET("/empty.bin", "Range: bytes=0-0\r\n")
                GET("/small.txt", "Range: bytes=2-1\r\n") GET("/small.txt", "Range: lines=1-2\r\n")
                    GET("/small.txt", "Range: bytes=0-1,4-5\r\n")
                        HEAD("/small.txt", "Range: bytes=1-3\r\n")),
        SAY(GET("/small.txt", "Range: bytes=0-5\r\nIf-Range: " OLD_DATE "\r\n")
                GET("/small.txt", "Range: bytes=0-5\r\nIf-Range: \"other\"\r\n" LAST)),
        ENDED } },
    { "HEAD",
      &served_files,
      "Content-Length: 300000",
      { OPEN, SAY(HEAD("/small.txt", "")), WAIT("nosniff\r\n\r\n"), SAY(HEAD("/large.bin", "")),
        WAIT("nosniff\r\n\r\n"),
        SAY(HEAD("/missing", "") HEAD("/dir", "") HEAD("/page.html", "Accept-Encoding: gzip\r\n")
                HEAD("/empty.bin", LAST)),
        ENDED } },
    { "conditions and codings",
      &served_files,
      "412 Precondition Failed",
      { OPEN,
        SAY(GET("/page.html", "Accept-Encoding: gzip\r\n")
                GET("/page.html", "Accept-Encoding: gzip;q=0\r\n")
                    GET("/page.html", "Accept-Encoding: gzip\r\nRange: bytes=0-3\r\n")
                        GET("/page.html", "If-None-Match: *\r\n")
                            GET("/page.html", "If-None-Match: \"other\"\r\n")),
        SAY(GET("/page.html", "If-Match: \"other\"\r\n")
                GET("/page.html", "If-Unmodified-Since: Wed, 01 Jan 2020 00:00:00 GMT\r\n")
                    GET("/page.html", "If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT\r\n" LAST)),
        ENDED } },
    { "names",
      &served_files,
      "301 Moved Permanently",
      { OPEN,
        SAY(GET("/", "") GET("/dir", "") GET("/dir?a=b", "") GET("/bare/", "") GET("/.hidden", "")
                GET("/../outside.txt", "") GET("/%2e%2e/outside.txt", "")
                    GET("/dir/..%2f..%2foutside.txt", "")),
        SAY(GET("//small.txt", "") GET("/%73mall.txt?query", "") GET("/small.txt/", "")
                GET("http://a/small.txt", "") GET("/./small.txt", LAST)),
        ENDED, ALONE("OPTIONS * HTTP/1.1\r\n" HOST LAST "\r\n"),
        ALONE("DELETE /small.txt HTTP/1.1\r\n" HOST LAST "\r\n"),
        ALONE("POST /small.txt HTTP/1.1\r\n" HOST LAST "Content-Length: 3\r\n\r\nabc") } },
    { "bad requests",
      &served_files,
      "505 HTTP Version Not Supported",
      { ALONE("GET\r\n\r\n"), ALONE("nonsense\r\n\r\n"),
        ALONE("GET /small.txt HTTP/2.0\r\n" HOST "\r\n"), ALONE("GET /small.txt HTTP/1.1\r\n\r\n"),
        ALONE("GET /small.txt HTTP/1.1\r\n" HOST HOST "\r\n"),
        ALONE("GET /small.txt HTTP/1.1\r\nHost : a\r\n\r\n"),
        ALONE("GET /small.txt HTTP/1.1\r\n" HOST "A: b\r\n folded\r\n\r\n"),
        ALONE("GET /small.txt HTTP/1.1\r\n" HOST "Content-Length: 1\r\n"
              "Transfer-Encoding: chunked\r\n\r\n"),
        ALONE("GET /small.txt HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        ALONE("GET /small.txt HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n"),
        ALONE("GET /small.txt HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n"),
        ALONE("GET small.txt HTTP/1.1\r\n" HOST "\r\n"),
        ALONE(GET("/small.txt%00", "") GET("/small.txt", "")),
        ALONE(GET("/%zz", "") GET("/small.txt", "")),
        ALONE(GET("/small.txt", "") "nonsense\r\n\r\n" GET("/small.txt", "")),
        ALONE("\r\n\r\n" GET("/small.txt", LAST)) } },
    { "early ends",
      &served_files,
      SMALL_END,
      { OPEN,
        SAY(GET("/small.txt", "") GET("/page.html", "")),
        HALF_CLOSE,
        ENDED,
        OPEN,
        HALF_CLOSE,
        ENDED,
        OPEN,
        SAY("GET /small.txt HTTP/1.1\r\nHo"),
        HALF_CLOSE,
        ENDED,
        OPEN,
        SAY("POST /small.txt HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc"),
        HALF_CLOSE,
        ENDED,
        OPEN,
        SAY(GET("/large.bin", "") GET("/large.bin", "")),
        RESET,
        OPEN,
        SAY(GET("/small.txt", "") "GET /la"),
        WAIT(SMALL_END),
        RESET,
        ALONE(GET("/small.txt", LAST)) } },
    { "slow readers",
      &served_files,
      "Content-Length: 300000",
      { OPEN_SLOWLY(4000), SAY(GET("/large.bin", "") GET("/small.txt", "") GET("/large.bin", LAST)),
        ENDED, OPEN_SLOWLY(1500), SAY(GET("/large.bin", "Range: bytes=1000-90000\r\n")), HALF_CLOSE,
        ENDED } },
    { "slow bodies",
      &served_echo,
      "100 Continue",
      { OPEN,
        SAY("POST /a HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc"),
        PAUSE(3),
        SAY("defg"),
        PAUSE(3),
        SAY("hij"),
        WAIT("abcdefghij"),
        SAY("POST /b HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nab"),
        PAUSE(3),
        SAY("c\r\n4;extension=1\r\ndefg\r"),
        PAUSE(3),
        SAY("\n0\r\nTrailer: b\r\n\r\n"),
        WAIT("abcdefg"),
        SAY("PUT /c HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n"),
        WAIT("100 Continue\r\n\r\n"),
        SAY("body"),
        WAIT("body"),
        SAY("POST /d HTTP/1.1\r\n" HOST LAST "Content-Length: 90000\r\n\r\n"),
        SEND(90000),
        ENDED,
        OPEN,
        SAY("POST /e HTTP/1.1\r\n" HOST "Content-Length: 100001\r\n\r\nabc"),
        ENDED,
        OPEN,
        SAY("POST /f HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ENDED } },
    { "bodies in pieces",
      &served_echo,
      "Content-Length: 250000",
      { OPEN, SAY("POST /stream HTTP/1.1\r\n" HOST "Content-Length: 200000\r\n\r\n"), SEND(200000),
        SAY(GET("/headers", "A: b\r\n")), WAIT("A: b\n"),
        SAY("POST /stream HTTP/1.1\r\n" HOST LAST "Content-Length: 0\r\n\r\n"), ENDED,
        OPEN_SLOWLY(3000),
        SAY("POST /stream HTTP/1.1\r\n" HOST LAST "Content-Length: 250000\r\n\r\n"), SEND(250000),
        ENDED } },
    { 0 },
};

// The answer tells in which pieces the body came, which is the network's business.
const struct script http_framed_scripts[] = {
    { "answers in pieces",
      &served_echo,
      "Transfer-Encoding: chunked",
      { OPEN, SAY("PUT /stream HTTP/1.1\r\n" HOST LAST "Transfer-Encoding: chunked\r\n\r\n"),
        SAY("5\r\nfirst\r\n"), WAIT("first\r\n"), SAY("6\r\nsecond\r\n0\r\n\r\n"), ENDED } },
    { 0 },
};
