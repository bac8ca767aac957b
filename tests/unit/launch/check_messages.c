/*
 * check_messages.c - people's JSON goes through as it was written; the slices are what a JSON
 * reader sees in their place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "launch/messages.h"

#include <string.h>
#include <unistd.h>

static void check(const char *text, const char *messages, const char *options)
{
    buffer o = {0};
    json_slice m = {0};
    flo_err err = {""};
    assert_int_equal(messages_take(text, strlen(text), "F", &m, &o, &err), FLO_OK);
    assert_int_equal(m.n, strlen(messages));
    assert_memory_equal(m.at, messages, m.n);
    assert_int_equal(o.n, strlen(options));
    assert_memory_equal(o.at, options, o.n);
    buffer_free(&o);
}

static void messages_and_their_options_are_cut_apart(void **state)
{
    (void)state;
    check(" [ {\"role\":\"user\"} ]\n", "[ {\"role\":\"user\"} ]", "{}");
    check("{\"messages\":[{\"role\":\"a\"}]}", "[{\"role\":\"a\"}]", "{}");
    check("{ \"a\" : 1.0 , \"messages\" : [{\"role\":\"]}\\\"[{\"}], \"b\":[{}, "
          "\"x,}\"],\"c\":-1e5 }",
          "[{\"role\":\"]}\\\"[{\"}]", "{\"a\":1.0,\"b\":[{}, \"x,}\"],\"c\":-1e5}");
    check("{\"m\\u0065ssages\":[{\"role\":\"a\"}],\"x\":1}", "[{\"role\":\"a\"}]", "{\"x\":1}");
    check("{\"messages\":0,\"messages\":[{\"role\":\"a\"}]}", "[{\"role\":\"a\"}]", "{}");
    check("{\"t\":true,\"n\":null,\"s\":\"\\\\\",\"messages\":[{\"role\":\"\\u0000\"}]}",
          "[{\"role\":\"\\u0000\"}]", "{\"t\":true,\"n\":null,\"s\":\"\\\\\"}");
}

static void what_is_no_conversation_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",    "[]",    "{}",         "3",     "[1]",           "[{}]", "{\"messages\":{}}",
        "[{]", "\"x\"", "{\"a\":[]}", "nulls", "[{\"role\":1}]"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        buffer o = {0};
        json_slice m = {0};
        flo_err err = {""};
        assert_int_equal(messages_take(bad[i], strlen(bad[i]), "F", &m, &o, &err), FLO_USAGE);
        assert_int_equal(strncmp(err.text, "F", 1), 0);
        buffer_free(&o);
    }
}

static void check_put(const char *text, const char *wanted, bool media)
{
    buffer out = {0};
    assert_int_equal(messages_put(&out, (json_slice){text, strlen(text)}), media);
    buffer_append_byte(&out, '\0');
    assert_string_equal(out.at, wanted);
    buffer_free(&out);
}

#define MESSAGE(parts) "[ {\"role\":\"user\" ,\"content\":[" parts "], \"n\" : 1.0} ]"

/* One part in, one part out. */
#define CHECK_PART(part, wanted) check_put(MESSAGE(part), MESSAGE(wanted), true)

static void relative_paths_of_media_become_absolute(void **state)
{
    (void)state;
    assert_int_equal(chdir("/tmp"), 0);
    CHECK_PART("{\"type\":\"image\",\"image\":\"a.png\"}",
               "{\"type\":\"image\",\"image\":\"/tmp/a.png\"}");
    CHECK_PART("{ \"image_url\" : { \"detail\":\"low\", \"url\" : \"b/\\u00e9.png\" } }",
               "{ \"image_url\" : { \"detail\":\"low\", \"url\" : \"/tmp/b/\\u00e9.png\" } }");
    CHECK_PART("{\"im\\u0061ge\":\"a\"}", "{\"im\\u0061ge\":\"/tmp/a\"}");
    CHECK_PART("{\"video\":\"a\"},{\"audio\":\"b\"}",
               "{\"video\":\"/tmp/a\"},{\"audio\":\"/tmp/b\"}");
    assert_int_equal(chdir("/"), 0);
    CHECK_PART("{\"audio\":\"b\"}", "{\"audio\":\"/b\"}");
}

static void all_else_in_messages_stays_as_it_is(void **state)
{
    (void)state;
    static const char *const parts[] = {
        MESSAGE("{\"image\":\"/a.png\"}"),
        MESSAGE("{\"image\":\"\\/a.png\"}"),
        MESSAGE("{\"image\":\"\\u002Fa.png\"}"),
        MESSAGE("{\"image\":\"data:image/png;base64,AA\"}"),
        MESSAGE("{\"image_url\":{\"url\":\"HTTPS:\\/\\/example.org\"}}"),
        MESSAGE("{\"type\":\"image\"}"),
        MESSAGE("{\"input_audio\":{\"data\":\"AAAA\",\"format\":\"wav\"}}"),
        MESSAGE("{\"image\":1.0e5},{\"image\":null},{\"video\":[\"a.png\"]},{\"image\":\"\"}"),
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        check_put(parts[i], parts[i], true);
    }
    static const char *const none[] = {
        "[{\"role\":\"user\",\"content\":\"image\"}]",
        MESSAGE("{\"type\":\"text\",\"text\":\"{\\\"image\\\":\\\"a.png\\\"}\"}"),
        MESSAGE("\"image\", 3, [], {}"),
        "[{\"role\":\"user\",\"image\":\"a.png\"}]",
    };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        check_put(none[i], none[i], false);
    }
}

static void a_message_with_media_is_a_list_that_ends_with_the_text(void **state)
{
    (void)state;
    buffer out = {0}, parts = {0};
    message_put(&out, "user", &parts, "a\"b", 3);
    buffer_append_text(&parts, "{\"type\":\"image\"},{\"type\":\"audio\"}");
    message_put(&out, "user", &parts, "a\"b", 3);
    buffer_append_byte(&out, '\0');
    assert_string_equal(out.at, "{\"role\":\"user\",\"content\":\"a\\\"b\"}"
                                "{\"role\":\"user\",\"content\":[{\"type\":\"image\"},"
                                "{\"type\":\"audio\"},{\"type\":\"text\",\"text\":\"a\\\"b\"}]}");
    buffer_free(&out);
    buffer_free(&parts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_and_their_options_are_cut_apart),
        cmocka_unit_test(what_is_no_conversation_is_refused),
        cmocka_unit_test(relative_paths_of_media_become_absolute),
        cmocka_unit_test(all_else_in_messages_stays_as_it_is),
        cmocka_unit_test(a_message_with_media_is_a_list_that_ends_with_the_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
