"""The oracle: of the kinds of tasks two."""

from functools import partial


class Tasks:
    def __init__(self, tasks):
        self.tasks = {name: partial(getattr(self, args[0]), *args[1:]) for name, args in dict(tasks).items()}

    def get_task_info_for_set(self, start_info, end_info, task_filter):
        assert isinstance(task_filter, set)
        return {
            name
            for name, told in self.tasks.items()
            if name in task_filter and told(start_info=start_info, end_info=end_info)
        }

    @staticmethod
    def move_door_abs(joint_name, start_threshold, end_threshold, start_info, end_info):
        start = start_info["scene_info"]["doors"][joint_name]["current_state"][0]
        end = end_info["scene_info"]["doors"][joint_name]["current_state"][0]
        if start_threshold < end_threshold:
            return start < start_threshold < end_threshold < end
        return start > start_threshold > end_threshold > end

    @staticmethod
    def toggle_light(light_name, start_state, end_state, start_info, end_info):
        lights = [info["scene_info"]["lights"][light_name]["logical_state"] for info in (start_info, end_info)]
        return lights == [start_state, end_state]
