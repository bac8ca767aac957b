/*
 * extent.h - how many bytes a media file promises to have, from its outermost structure.
 *
 * FFmpeg reads a file that was cut short as if it had been made so; whoever asks a model about a
 * recording wants to know that half of it is missing. RIFF (WAV, AVI), AIFF, CAF, MP4 and its kin,
 * Matroska and WebM, Ogg and GIF say where their parts end; this reads no more than that.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_EXTENT_H
#define FLOTILLA_COORDINATOR_MEDIA_EXTENT_H

#include <stddef.h>
#include <stdint.h>

/* Bytes that the file needs to have at least: more than n_bytes where it is cut short. 0: another
 * format, or one that does not say (as when a program wrote into a pipe). */
uint64_t media_extent(const uint8_t *bytes, size_t n_bytes);

/* Where the first part begins that FFmpeg would leave out in silence: an Ogg page with a wrong
 * checksum, an element of Matroska or WebM that does not fit into its cluster. UINT64_MAX: there is
 * none, or another format. */
uint64_t media_damage(const uint8_t *bytes, size_t n_bytes);

#endif
