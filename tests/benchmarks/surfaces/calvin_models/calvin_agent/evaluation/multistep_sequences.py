def get_sequences(num_sequences, num_workers=None):
    chain = ("open_drawer", "turn_on_led", "close_drawer", "turn_off_led", "move_slider_left")
    found = []
    for i in range(num_sequences):
        state = {
            "led": 0,
            "lightbulb": i % 2,
            "slider": ("right", "left")[i % 2],
            "drawer": ("closed", "open")[i // 2 % 2],
        }
        blocks = ("table", "slider_right", "slider_left")
        state.update(red_block=blocks[i % 3], blue_block=blocks[(i + 1) % 3], pink_block=blocks[(i + 2) % 3], grasped=0)
        found.append((state, chain))
    return found
