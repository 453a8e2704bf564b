/*
 * The stream: samples become frames, and frames events of two models.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws.h"

#include <string.h>

/* Fails to compile if a state is larger than kws_config.h says. */
typedef char kws_state_is_as_small_as_promised[sizeof(kws_state) <= KWS_STATE_BYTES ? 1 : -1];

/* Forget all audio; thresholds stay. */
static void forget(kws_state *state)
{
    kws_audio_reset(&state->audio);
    kws_wake_detector_reset(&state->wake);
    kws_commands_detector_reset(&state->commands);
    memset(&state->gate, 0, sizeof state->gate);
    memset(state->events, 0, sizeof state->events);
    state->n_events = 0;
    memset(&state->work, 0, sizeof state->work);
}

/* KWS_MAX_FEED_SAMPLES is so small that the list has room for it. */
static void add_event(kws_state *state, int label, uint16_t score_q15, uint64_t now)
{
    kws_event *const event = &state->events[state->n_events++];

    event->keyword = (uint16_t)label;
    event->score_q15 = score_q15;
    event->time_samples = now;
}

/* A frame is complete: both models hear it, the wake word's first. */
static void take_frame(kws_state *state)
{
    const uint64_t now = kws_audio_time(&state->audio);
    uint16_t wake_q15, command_q15;
    const int wake = kws_wake_detector_take(&state->wake, state->work.wake, state->audio.mfcc_q16,
                                            &wake_q15);
    const int command = kws_commands_detector_take(&state->commands, state->work.commands,
                                                   state->audio.mfcc_q16, &command_q15);

    if (wake != KWS_WAKE_NO_KEYWORD) {
        add_event(state, wake, wake_q15, now);
    }
    /* A command counts in a window that was opened before, so the gate hears of it first. */
    if (command != KWS_COMMANDS_NO_KEYWORD && kws_gate_command(&state->gate, now)) {
        add_event(state, KWS_N_WAKE_LABELS + command, command_q15, now);
    }
    if (wake != KWS_WAKE_NO_KEYWORD) {
        kws_gate_wake(&state->gate, now);
    }
}

int kws_init(kws_state *state)
{
    if (state == NULL) {
        return KWS_ERROR_NULL;
    }
    memset(state, 0, sizeof *state);
    kws_wake_detector_init(&state->wake);
    kws_commands_detector_init(&state->commands);
    forget(state);
    state->mark = KWS_STATE_MARK;
    return KWS_OK;
}

int kws_reset(kws_state *state)
{
    if (state == NULL) {
        return KWS_ERROR_NULL;
    }
    if (state->mark != KWS_STATE_MARK) {
        return KWS_ERROR_NOT_INITIALISED;
    }
    forget(state);
    return KWS_OK;
}

int kws_set_threshold(kws_state *state, int keyword, uint32_t threshold_q15)
{
    int result;

    if (state == NULL) {
        return KWS_ERROR_NULL;
    }
    if (state->mark != KWS_STATE_MARK) {
        return KWS_ERROR_NOT_INITIALISED;
    }
    if (keyword < 0 || keyword >= KWS_N_LABELS) {
        return KWS_ERROR_THRESHOLD;
    }
    if (kws_is_wake_word(keyword)) {
        result = kws_wake_decide_set_threshold(&state->wake.decide, keyword, threshold_q15);
    } else {
        result = kws_commands_decide_set_threshold(&state->commands.decide,
                                                   keyword - KWS_N_WAKE_LABELS, threshold_q15);
    }
    return result == 0 ? KWS_OK : KWS_ERROR_THRESHOLD;
}

int kws_feed(kws_state *state, const int16_t *pcm, size_t n, kws_event *event)
{
    if (state == NULL || event == NULL || (pcm == NULL && n > 0)) {
        return KWS_ERROR_NULL;
    }
    if (state->mark != KWS_STATE_MARK) {
        return KWS_ERROR_NOT_INITIALISED;
    }
    if (n > KWS_MAX_FEED_SAMPLES) {
        return KWS_ERROR_TOO_LONG;
    }
    while (kws_audio_next_frame(&state->audio, state->work.front_end, &pcm, &n)) {
        take_frame(state);
    }
    if (state->n_events == 0) {
        return KWS_OK;
    }
    *event = state->events[0];
    state->events[0] = state->events[1];
    state->n_events--;
    return KWS_EVENT;
}

int kws_is_wake_word(int label)
{
    return label >= 0 && label < KWS_N_WAKE_LABELS;
}

int kws_is_listening(const kws_state *state)
{
    /* The next command can come at the next frame at the earliest. */
    return state != NULL &&
           kws_gate_is_open(&state->gate, kws_audio_time(&state->audio) + KWS_HOP_LENGTH);
}

uint64_t kws_frames(const kws_state *state)
{
    return state == NULL ? 0 : state->audio.frames;
}

const int32_t *kws_last_frame(const kws_state *state)
{
    return state == NULL ? NULL : state->audio.mfcc_q16;
}

const int8_t *kws_last_wake_posteriors(const kws_state *state)
{
    return state == NULL ? NULL : state->wake.posteriors;
}

const int8_t *kws_last_command_posteriors(const kws_state *state)
{
    return state == NULL ? NULL : state->commands.posteriors;
}
