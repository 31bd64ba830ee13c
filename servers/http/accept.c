// See accept.h.
#include "accept.h"

// How much one of the two forms is wanted.
struct accept_wish {
    const char *ranges[3]; // that name it, the most precise one last
    unsigned precision, weight, place;
};

static void accept_wish_for(struct accept_wish *wish, struct http_text range, unsigned weight,
                            unsigned place)
{
    for (unsigned i = 0; i < 3; i++) {
        if (wish->precision > i || !http_text_is_word(range, wish->ranges[i]))
            continue;
        wish->precision = i + 1;
        wish->weight = weight;
        wish->place = place;
    }
}

bool http_accept_prefers_json(const struct http_request *request)
{
    struct accept_wish json = { { "*/*", "application/*", "application/json" }, 0, 0, 0 };
    struct accept_wish html = { { "*/*", "text/*", "text/html" }, 0, 0, 0 };
    struct http_text list, element;
    unsigned place = 0;
    size_t at = 0;
    while (http_request_next(request, FIELD_ACCEPT, &at, &list)) {
        for (; http_text_next_element(&list, &element); place++) {
            unsigned weight = http_text_cut_weight(&element);
            accept_wish_for(&json, element, weight, place);
            accept_wish_for(&html, element, weight, place);
        }
    }
    if (json.weight != html.weight || !json.weight)
        return json.weight > html.weight;
    if (json.precision != html.precision)
        return json.precision > html.precision;
    return json.place < html.place;
}
