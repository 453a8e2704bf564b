/*
 * Prints the keywords detected by a PDM microphone, with Zephyr's DMIC driver (Zephyr 3.7 or
 * newer):
 *
 *     west build -b xiao_ble/nrf52840/sense && west flash
 *     west build -b nrf5340dk/nrf5340/cpuapp && west flash
 *
 * Another board needs an overlay that names its microphone `dmic_dev`; see boards/.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <zephyr/audio/dmic.h>
#include <zephyr/device.h>
#include <zephyr/devicetree.h>
#include <zephyr/kernel.h>
#include <zephyr/sys/printk.h>

#include "kws.h"
#include "kws_self_test.h"

#define BLOCK_BYTES (KWS_HOP_LENGTH * sizeof(int16_t))
#define BLOCKS 8 /* while one is processed, the driver fills the others */
#define TIMEOUT_MS 1000

K_MEM_SLAB_DEFINE_STATIC(blocks, BLOCK_BYTES, BLOCKS, 4);

static kws_state state;

static int open_microphone(const struct device *microphone)
{
	/* Static, because drivers may read these again when they are triggered. */
	static struct pcm_stream_cfg stream = {
		.pcm_rate = KWS_SAMPLE_RATE_HZ,
		.pcm_width = 16,
		.block_size = BLOCK_BYTES,
		.mem_slab = &blocks,
	};
	static struct dmic_cfg config = {
		.io = {
			/* Limits of typical PDM microphones. */
			.min_pdm_clk_freq = 1000000,
			.max_pdm_clk_freq = 3500000,
			.min_pdm_clk_dc = 40,
			.max_pdm_clk_dc = 60,
		},
		.streams = &stream,
		.channel = {
			.req_num_streams = 1,
			.req_num_chan = 1,
		},
	};
	int result;

	if (!device_is_ready(microphone)) {
		return -1;
	}
	config.channel.req_chan_map_lo = dmic_build_channel_map(0, 0, PDM_CHAN_LEFT);
	result = dmic_configure(microphone, &config);
	return result < 0 ? result : dmic_trigger(microphone, DMIC_TRIGGER_START);
}

int main(void)
{
	const struct device *const microphone = DEVICE_DT_GET(DT_NODELABEL(dmic_dev));
	const uint32_t start_ms = k_uptime_get_32();
	int result = kws_self_test(&state);

	printk("self-test %s: %u ms for %lu ms of audio\n", result == KWS_OK ? "passed" : "failed",
	       k_uptime_get_32() - start_ms, KWS_SELF_TEST_MS);
	kws_init(&state);
	result = open_microphone(microphone);
	if (result < 0) {
		printk("the microphone does not start: %d\n", result);
		return 0;
	}
	for (;;) {
		kws_event event;
		void *block;
		size_t bytes;

		if (dmic_read(microphone, 0, &block, &bytes, TIMEOUT_MS) < 0) {
			/* Audio is missing, so the stream must begin anew. */
			printk("audio was lost\n");
			kws_reset(&state);
			(void)dmic_trigger(microphone, DMIC_TRIGGER_STOP);
			(void)dmic_trigger(microphone, DMIC_TRIGGER_START);
			continue;
		}
		result = kws_feed(&state, block, bytes / sizeof(int16_t), &event);
		k_mem_slab_free(&blocks, block);
		if (result == KWS_EVENT) {
			const uint32_t ms =
				(uint32_t)(event.time_samples * 1000 / KWS_SAMPLE_RATE_HZ);

			printk("%u.%02u s  %s  0.%02u\n", ms / 1000, ms % 1000 / 10,
			       kws_labels[event.keyword], event.score_q15 * 100u / 32768u);
		}
	}
}
