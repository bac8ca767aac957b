/*
 * lexer.h - a template's source as tokens, white space control already done.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_JINJA_LEXER_H
#define FLOTILLA_COORDINATOR_TEXT_JINJA_LEXER_H

#include "coordinator/text/jinja/value.h"

typedef enum token_kind {
    T_EOF,
    T_DATA,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_PRINT_BEGIN,
    T_PRINT_END,
    T_NAME,
    T_STRING,
    T_INTEGER,
    T_FLOAT,
    T_ADD,
    T_ASSIGN,
    T_COLON,
    T_COMMA,
    T_DIV,
    T_DOT,
    T_EQ,
    T_FLOORDIV,
    T_GT,
    T_GE,
    T_LBRACE,
    T_LBRACKET,
    T_LPAREN,
    T_LT,
    T_LE,
    T_MOD,
    T_MUL,
    T_NE,
    T_PIPE,
    T_POW,
    T_RBRACE,
    T_RBRACKET,
    T_RPAREN,
    T_SEMICOLON,
    T_SUB,
    T_TILDE,
} token_kind;

typedef struct token {
    token_kind kind;
    int line;
    text *spelling; /* DATA, NAME: as it stands; STRING: unescaped */
    value number;   /* INTEGER, FLOAT */
} token;

/* All tokens of a source, T_EOF last. Line ends become \n; one at the very end is dropped. */
token *tokens_of(sandbox *m, const char *source, size_t n_bytes, size_t *n_tokens);

const char *token_kind_name(token_kind k); /* for sentences */

#endif
